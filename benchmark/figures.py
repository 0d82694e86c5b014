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


def draw(axis, seeds: list[np.ndarray], colour: str, line: str, label: str) -> None:
    """Thin: each seed, (2, evaluations) of steps and returns; thick: their median, as far as all go."""
    for steps, returns in seeds:
        axis.plot(steps / 1000, returns, color=colour, alpha=0.25, linewidth=0.8)
    end = min(steps[-1] for steps, _ in seeds) + np.diff(seeds[0][0]).mean() / 2
    grid = seeds[0][0][seeds[0][0] <= end]
    median = np.median([np.interp(grid, steps, returns) for steps, returns in seeds], 0)
    axis.plot(grid / 1000, median, line, color=colour, linewidth=2, label=f"{label}, {len(seeds)} seeds")


def medians(out: str, title: str, **arms: str) -> None:
    """results/OUT: an arm of compare.py for each label; the first returns, before 9,000 steps, may lie below the picture."""
    import matplotlib.pyplot as plt

    figure, axis = plt.subplots(figsize=(7.5, 4.6), layout="constrained")
    found = {label: compare.curves(arm) for label, arm in arms.items()}
    for (label, seeds), colour, line in zip(found.items(), curves.COLOURS, LINES):
        draw(axis, seeds, colour, line, label)
    returns = np.concatenate([curve[1, curve[0] > 9_000] for curve in sum(found.values(), [])])
    gap = 0.04 * np.ptp(returns)
    axis.set(title=title, xlabel="thousand steps of all actors", ylabel="greedy return (thin: seeds, thick: median)",
             ylim=(returns.min() - gap, returns.max() + gap))
    axis.grid(alpha=0.3)
    figure.legend(loc="outside lower center", ncols=2, fontsize=9)
    figure.savefig(curves.RESULTS / out, dpi=110)


def experiments() -> None:
    """tests/assignments/results/experiments.png: greedy returns of each experiment's arms."""
    import matplotlib.pyplot as plt

    rows = list(csv.DictReader(open(experiment.RESULTS)))
    figure, axes = plt.subplots(2, 3, figsize=(13, 8), layout="constrained")
    axes.flat[-1].axis("off")
    for axis, (name, found) in zip(axes.flat, experiment.EXPERIMENTS.items()):
        for arm, colour, line in zip(found.arms, curves.COLOURS, LINES):
            seeds = [np.array([pair.split(":") for pair in row["curve"].split()], float).T for row in rows
                     if row["experiment"] == name and row["arm"] == arm]
            if seeds:
                draw(axis, seeds, colour, line, arm)
        axis.set(title=name, xlabel="thousand steps of all actors")
        axis.grid(alpha=0.3)
        axis.legend(loc="upper center", bbox_to_anchor=(0.5, -0.14), fontsize=9)
        axis.set_ylabel("greedy return")
    figure.savefig(experiment.RESULTS.with_suffix(".png"), dpi=90)


def main() -> None:
    arms = [("ca2e", "CA2E-DDPG", ""), ("no_prior", "without priors", "")]
    curves.plot("pendulum.png", "InvertedPendulum-v5", *(
        f"invertedpendulum_{kind}_s{seed}={label}, seed {seed}{shift}" for kind, label, shift in arms for seed in (1, 2, 3)))
    curves.plot("pong.png", "Pong, eight actors: three of them priors, or none", *(
        f"{name}={label}" for name, label in (
            *((f"gpu_pong_ca2e_s{seed}", f"CA2E-DQN, seed {seed} (H200)=1972000") for seed in (1, 2, 3)),
            ("h100_pong_ca2e_s1", "CA2E-DQN, seed 1 (H100)=1972000"),
            *((f"pong_no_prior8_s{seed}", f"without priors, seed {seed} (two cores)") for seed in (1, 2)),
            ("h100_pong_no_prior8_s1", "without priors, seed 1 (H100)"))),
                "pretrain_Pong_n-step-double-dqn_s1=the best prior's own training, two cores")
    curves.plot("breakout.png", "Breakout, on a GPU: eight actors, three of them priors, or none",
                "h100_breakout_ca2e_s1=priors, seed 1 (H100)", "h100_breakout_no_prior8_s1=none, seed 1 (H100)",
                "gpu_breakout_ca2e_s1=priors, seed 1 (H200)", "gpu_breakout_no_prior_s1=none, five, seed 1 (H200)")
    medians("reacher.png", "Reacher-v5, eight actors: three of them priors, or none", **{
        "three prior actors": "reacher_ca2e_150k", "none": "reacher_no_prior8_150k",
        "three prior actors, --n-step 1": "reacher_ca2e_onestep_150k",
        "none, --n-step 1": "reacher_no_prior8_onestep_150k"})
    medians("hopper.png", "Hopper-v5, eight actors: three of them priors, or none", **{
        "three prior actors": "hopper_ca2e_300k", "none": "hopper_no_prior8_300k"})
    medians("teacher.png", "Hopper-v5: the learner also imitates the best prior (2,757), or does not", **{
        "with a teacher": "hopper_distill", "CA2E": "hopper_ca2e_300k", "eight nature actors": "hopper_no_prior8_300k"})
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
    main()
