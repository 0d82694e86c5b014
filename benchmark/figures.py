"""Draws every picture of the results again, from their CSVs: python benchmark/figures.py (half a minute)."""

import csv
import sys

import numpy as np

import curves
import figure3
import inside
import speed

sys.path.insert(0, str(curves.RESULTS.parents[1] / "tests" / "assignments"))
import experiment  # noqa: E402


def experiments() -> None:
    """tests/assignments/results/experiments.png: greedy returns; thin: each of five seeds; thick: their median."""
    import matplotlib.pyplot as plt

    rows = list(csv.DictReader(open(experiment.RESULTS)))
    figure, axes = plt.subplots(2, 3, figsize=(13, 8), layout="constrained")
    axes.flat[-1].axis("off")
    for axis, (name, found) in zip(axes.flat, experiment.EXPERIMENTS.items()):
        for arm, colour, line in zip(found.arms, curves.COLOURS, ("-", "--", "-.", ":")):
            seeds = [np.array([pair.split(":") for pair in row["curve"].split()], float).T for row in rows
                     if row["experiment"] == name and row["arm"] == arm]
            for steps, returns in seeds:
                axis.plot(steps / 1000, returns, color=colour, alpha=0.25, linewidth=0.8)
            if seeds:
                grid = seeds[0][0]
                median = np.median([np.interp(grid, steps, returns) for steps, returns in seeds], 0)
                axis.plot(grid / 1000, median, line, color=colour, linewidth=2, label=f"{arm}, {len(seeds)} seeds")
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
    curves.plot("reacher.png", "Reacher-v5, eight actors: three of them priors, or none", *(
        f"reacher_{kind}_150k_s{seed}={label}, seed {seed}" for kind, label in (
            ("ca2e", "three prior actors"), ("no_prior8", "none")) for seed in range(1, 6)))
    curves.plot("hopper.png", "Hopper-v5, eight actors: three of them priors, or none", *(
        f"hopper_{kind}_300k_s{seed}={label}, seed {seed}" for kind, label in (
            ("ca2e", "three prior actors"), ("no_prior8", "none")) for seed in range(1, 6)))
    curves.plot("teacher.png", "Hopper-v5: the learner also imitates the best prior (2,757), or does not", *(
        f"hopper_{kind}_s{seed}={label}, seed {seed}" for kind, label in (
            ("distill", "with a teacher"), ("ca2e_300k", "CA2E"), ("no_prior8_300k", "eight nature actors"))
        for seed in range(1, 6)))
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
