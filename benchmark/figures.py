"""Draws every picture of the results again, from their CSVs: python benchmark/figures.py (half a minute)."""

import csv
import sys

import numpy as np

import compare
import curves
import figure3
import inside
import speed

sys.path.insert(0, str(curves.RESULTS.parents[1] / "tests" / "assignments"))
import experiment  # noqa: E402

LINES = ("-", "--", "-.", ":")


def draw(axis, runs: list[np.ndarray], colour: str, line: str, label: str, counted: int = 0) -> None:
    """Thin: each run, (2, evaluations) of steps, after those counted, and returns; thick: their median, as far as all go."""
    for steps, returns in runs:
        axis.plot((steps + counted) / 1000, returns, color=colour, alpha=0.25, linewidth=0.8)
    grid = max((steps for steps, _ in runs), key=len)  # of the run that skipped the fewest evaluations
    grid = grid[grid <= min(steps[-1] for steps, _ in runs) + np.diff(grid).mean() / 2]
    median = np.median([np.interp(grid, steps, returns) for steps, returns in runs], 0)
    label += f": {len(runs)} run" + "s" * (len(runs) > 1)
    axis.plot((grid + counted) / 1000, median, line, color=colour, linewidth=2, label=label)


def medians(out: str, title: str, arms: dict[str, str], before: dict[str, int] | None = None) -> None:
    """results/OUT: an arm of compare.py for each label; the first returns, before 9,000 steps, may lie below the picture.

    before: steps that trained the priors of an arm; if any, a second picture beside the first counts them in.
    """
    import matplotlib.pyplot as plt

    panels = 1 + bool(before)
    figure, axes = plt.subplots(1, panels, figsize=(2.5 + 5 * panels, 4.6), squeeze=False, sharey=True, layout="constrained")
    found = {label: compare.curves(arm) for label, arm in arms.items()}
    for axis, counts in zip(axes[0], ({}, before or {})):
        for (label, runs), colour, line in zip(found.items(), curves.COLOURS, LINES):
            draw(axis, runs, colour, line, label, counts.get(label, 0))
        axis.set(xlabel="thousand steps of all actors", title=title + ", the priors' own training counted in" * bool(counts))
        axis.grid(alpha=0.3)
    returns = np.concatenate([curve[1, curve[0] > 9_000] for curve in sum(found.values(), [])])
    gap = 0.04 * np.ptp(returns)
    axes[0, 0].set(ylabel="greedy return (thin: runs, thick: median)",
                   ylim=(returns.min() - gap, returns.max() + gap))
    figure.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside lower center", ncols=1 + panels, fontsize=9)
    figure.savefig(curves.RESULTS / out, dpi=110)


def experiments() -> None:
    """tests/assignments/results/experiments.png: greedy returns of each experiment's arms."""
    import matplotlib.pyplot as plt

    rows = list(csv.DictReader(open(experiment.RESULTS)))
    figure, axes = plt.subplots(2, 3, figsize=(13, 8), layout="constrained")
    for axis, (name, found) in zip(axes.flat, experiment.EXPERIMENTS.items()):
        for arm, colour, line in zip(found.arms, curves.COLOURS, LINES):
            seeds = [np.array([pair.split(":") for pair in row["curve"].split()], float).T for row in rows
                     if row["experiment"] == name and row["arm"] == arm]
            if seeds:
                draw(axis, seeds, colour, line, arm)
        axis.set(title=name, xlabel="thousand steps of all actors")
        axis.grid(alpha=0.3)
        axis.legend(loc="upper center", bbox_to_anchor=(0.5, -0.2), fontsize=9)
        axis.set_ylabel("greedy return")
    figure.savefig(experiment.RESULTS.with_suffix(".png"), dpi=90)


def main() -> None:
    arms = [("ca2e", "CA2E-DDPG", ""), ("no_prior", "without priors", "")]
    curves.plot("pendulum.png", "InvertedPendulum-v5", *(
        f"invertedpendulum_{kind}_s{seed}={label}, seed {seed}{shift}" for kind, label, shift in arms for seed in (1, 2, 3)))
    pong = {"CA2E": "gpu_pong_ca2e,h100_pong_ca2e,pong_ca2e_second", "eight nature actors": "h100_pong_no_prior8,pong_no_prior8"}
    medians("pong.png", "Pong", {**pong, "the best prior's own training": "pretrain_Pong_n-step-double-dqn"}, {"CA2E": 1_972_000})
    medians("pong_uniform.png", "Pong: prioritized or uniform sampling", {
        **pong, "CA2E, uniform": "pong_uniform", "eight nature actors, uniform": "pong_uniform_no_prior8"})
    medians("pong_spi16.png", "Pong: 8 or 16 samples an insert", {
        **{f"{label}, 8": arm for label, arm in pong.items()}, "CA2E, 16": "pong_spi16,pong_spi16_third",
        "eight nature actors, 16": "pong_spi16_no_prior8,pong_spi16_no_prior8_third"})
    medians("breakout.png", "Breakout: prioritized or uniform sampling (with and without priors)", {
        "prioritized, on GPUs": "h100_breakout_ca2e,gpu_breakout_ca2e,h100_breakout_no_prior8,gpu_breakout_no_prior",
        "uniform": "trial_breakout_ca2e_uniform_long,trial_breakout_no_prior8_uniform_long",
        "uniform, stopped early": "trial_breakout_ca2e_uniform,trial_breakout_no_prior8_uniform",
        "prioritized, stopped early": "trial_breakout_ca2e_second,trial_breakout_no_prior8_second,"
                                      "trial_breakout_ca2e_prioritized,trial_breakout_no_prior8_prioritized"})
    medians("reacher.png", "Reacher-v5", {
        "CA2E": "reacher_ca2e_150k", "eight nature actors": "reacher_no_prior8_150k",
        "CA2E, --n-step 1": "reacher_ca2e_onestep_150k", "eight nature actors, --n-step 1": "reacher_no_prior8_onestep_150k"})
    hopper = {"CA2E": "hopper_ca2e_300k", "eight nature actors": "hopper_no_prior8_300k"}
    medians("hopper.png", "Hopper-v5", hopper)
    medians("hopper_early.png", "Hopper-v5, the beginning", {
        "CA2E": "hopper_ca2e_new", "eight nature actors": "hopper_no_prior8_new"})
    medians("rivals.png", "Hopper-v5: CA2E, and stable-baselines3 as it comes", {
        "CA2E": "hopper_ca2e_300k", "TD3 (one stopped at 200,000)": "rival_td3_Hopper-v5", "PPO": "rival_ppo_Hopper-v5"})
    medians("teacher.png", "Hopper-v5: with the best prior (2,757) as a teacher, too", {
        **hopper, "with a teacher": "hopper_distill"})
    curves.plot("pong_two_cores.png", "Pong, on two cores", "pong_ca2e_s1=CA2E-DQN, seed 1=1972000",
                "pong_ca2e_s2=CA2E-DQN, seed 2=1972000", "pong_ca2e_second_s1=CA2E-DQN, seed 1, second edition=1972000",
                *(f"pong_distill_s{seed}=with a teacher, seed {seed}=1972000" for seed in (1, 2, 3)),
                "pong_no_prior_s1=without priors, seed 1", "pong_no_prior_s2=without priors, seed 2",
                "pretrain_Pong_n-step-double-dqn_s1=the best prior's own training")
    figure3.plot()
    figure3.ablations()
    inside.plot("hopper_ca2e_s1_1m", "hopper_no_prior_s1_1m", "reacher_ca2e_s1")
    speed.plot_scaling()
    experiments()


if __name__ == "__main__":
    if {"-h", "--help"} & {*sys.argv}:
        sys.exit(__doc__)
    main()
