"""Experiments: write down what you expect, run two or more arms, compare with what five seeds showed.

    python tests/assignments/experiment.py                    # the list
    python tests/assignments/experiment.py n_step             # all arms, seed 1
    python tests/assignments/experiment.py n_step --seeds 1 2 3 4 5
    python tests/assignments/experiment.py n_step --reveal    # afterwards: what five seeds had
    tensorboard --logdir experiments/n_step

Each arm is an edited copy or other settings of ca2e_ddpg_mujoco.py, run in one process (`--sync`), two at a time; its
settings are printed. `results/experiments.csv` holds what was measured when these were written.
"""

import argparse
import csv
import itertools
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from common import DDPG, ROOT
from runs import PENDULUM, commit, curves, run

RESULTS = Path(__file__).parent / "results" / "experiments.csv"
FIELDS = ["experiment", "arm", "seed", "mean", "reached", "final", "retired", "seconds", "commit", "command", "curve"]
REACHER = ["--env-id", "Reacher-v5", "--sync", "--no-cuda", "--total-timesteps", "15000", "--learning-starts", "2000",
           "--tau", "0.005", "--critic-l2", "0", "--eval-frequency", "1000", "--eval-episodes", "20", "--retire-ratio", "1.5"]
LITERAL = [("    threshold = rbar + (ratio - 1) * abs(rbar)", "    threshold = ratio * rbar")]


@dataclass
class Experiment:
    question: str
    flags: list  # of all arms
    goal: float  # a greedy return that two evaluations in a row should reach
    arms: dict  # name: (edits, further flags); "PRIOR:td3" stands for a folder with that prior alone


EXPERIMENTS = {
    "n_step": Experiment("Does a longer return learn faster? n = 1, 3, 10.", PENDULUM, 900, {
        "n1": ([], ["--n-step", "1"]), "n3": ([], []), "n10": ([], ["--n-step", "10"])}),
    "tau": Experiment("How fast should the target networks follow?", PENDULUM, 900, {
        "tau0.001": ([], ["--tau", "0.001"]), "tau0.01": ([], []), "tau1": ([], ["--tau", "1"])}),
    "priors": Experiment("Do priors help, and does it matter how good they are?", PENDULUM, 900, {
        "none": ([], ["--num-prior-actors", "0", "--num-nature-actors", "8"]),
        "weak": ([], ["--prior-dir", "PRIOR:ddpg"]), "middle": ([], ["--prior-dir", "PRIOR:td3"]),
        "good": ([], ["--prior-dir", "PRIOR:n-step-ddpg"])}),
    "priorities": Experiment("Does prioritized replay pay on an easy task?", PENDULUM, 900, {
        "prioritized": ([], []), "uniform": ([], ["--per-alpha", "0"])}),
    "lag": Experiment("How old may the network be that the actors play? Published every 10, 300, 1,000 updates.", PENDULUM, 900, {
        "every10": ([], []), "every300": ([], ["--publish-frequency", "300"]), "every1000": ([], ["--publish-frequency", "1000"])}),
    "retirement": Experiment("alpha = 1.5 asks for much more than the prior's return. What does the rule as the paper prints "
                             "it, r >= alpha rbar, ask for where returns are negative?", REACHER, -7, {"literal": (LITERAL, []), "mended": ([], [])}),
}


def total_of(flags: list[str]) -> int:
    return int(flags[flags.index("--total-timesteps") + 1])


def with_priors(flags: list[str], folder: Path) -> list[str]:
    """flags with each PRIOR:name replaced by a folder, made below folder, that holds that prior alone."""
    flags = list(flags)
    for i, flag in enumerate(flags):
        if flag.startswith("PRIOR:"):
            name, task = flag.removeprefix("PRIOR:"), "InvertedPendulum-v5"
            flags[i] = str((folder / "one_prior" / name).resolve())
            Path(flags[i], task).mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / "priors" / task / f"{name}.pt", Path(flags[i], task))
    return flags


def measure(place: Path, goal: float) -> dict:
    """Of a run: mean greedy return, step of the first of two evaluations that reach goal, 20 final games, retirement."""
    found = curves(place)
    steps, values = found["charts/eval_return"]
    both = [int(step) for step, one, two in zip(steps, values, values[1:]) if min(one, two) >= goal]
    acting_steps, acting = found["priors/acting"]
    retired = "never" if acting.any() else ""  # empty: there were no priors
    if acting.any() and (acting == 0).any():
        retired = int(acting_steps[acting == 0][0])
    return {"mean": round(float(values.mean()), 3), "reached": both[0] if both else "never", "retired": retired,
            "final": round(float(found["charts/final_return"][1][-1]), 2),
            "curve": " ".join(f"{step}:{value:.5g}" for step, value in zip(steps, values))}


def permutation_p(one: list[float], other: list[float]) -> float:
    """The share of all splits of the pooled seeds whose means differ at least as much as those of one and other."""
    both, n = one + other, len(one)
    sums = np.array([sum(chosen) for chosen in itertools.combinations(both, n)])
    differences = np.abs(sums / n - (sum(both) - sums) / (len(both) - n))
    return float(np.mean(differences >= abs(np.mean(one) - np.mean(other)) - 1e-9))


def median_step(rows: list[dict], key: str) -> str:
    """Of a column of steps, some of them "never"."""
    steps = [float("inf") if row[key] == "never" else float(row[key]) for row in rows if row[key] != ""]
    return "-" if not steps else "never" if np.isinf(np.median(steps)) else f"{np.median(steps):,.0f}"


def summary(rows: list[dict], name: str) -> str:
    """A line for each arm: its seeds' figures, sorted, their median, and p of the means against the first arm's."""
    lines = [f"{'':12}{'mean greedy return: median (each seed)':50}{'p':>6}{'final 20':>10}{'reached':>9}{'retired':>9}"]
    arms = {arm: [row for row in rows if row["experiment"] == name and row["arm"] == arm] for arm in EXPERIMENTS[name].arms}
    first = [float(row["mean"]) for row in next(iter(arms.values()))]
    for i, (arm, own) in enumerate(arms.items()):
        if own:
            means, finals = (sorted(float(row[key]) for row in own) for key in ("mean", "final"))
            each = f"{np.median(means):.4g} ({', '.join(format(mean, '.4g') for mean in means)})"
            p = f"{permutation_p(means, first):.2f}" if i and len(means) > 2 else ""
            lines.append(f"{arm:12}{each:50}{p:>6}{np.median(finals):>10.5g}{median_step(own, 'reached'):>9}"
                         f"{median_step(own, 'retired'):>9}")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", nargs="?", choices=EXPERIMENTS)
    parser.add_argument("--seeds", type=int, nargs="+", default=[1])
    parser.add_argument("--folder", type=Path, default=Path("experiments"), help="where the copies and curves go")
    parser.add_argument("--at-once", type=int, default=2, help="runs at a time; one for each core")
    parser.add_argument("--reveal", action="store_true", help="show what was measured; nothing runs")
    parser.add_argument("--record", action="store_true", help="append the figures to results/experiments.csv")
    args = parser.parse_args()
    if not args.name:
        return print("\n".join(f"{name:12} {found.question}" for name, found in EXPERIMENTS.items()))
    if args.reveal:
        with open(RESULTS) as file:
            return print(f"measured when this was written:\n{summary(list(csv.DictReader(file)), args.name)}")
    chosen, rows = EXPERIMENTS[args.name], []
    arms = {arm: (edits, chosen.flags + with_priors(flags, args.folder)) for arm, (edits, flags) in chosen.arms.items()}
    print(chosen.question)
    for arm, (edits, flags) in arms.items():
        print(f"  {arm}: {DDPG}{', edited,' * bool(edits)} {' '.join(flags)}")
    for seed in args.seeds:
        folder = args.folder / args.name / f"seed{seed}"
        print(f"seed {seed}, in {folder}", end=" ", flush=True)
        seconds = run(folder, arms, seed, args.at_once)
        for arm in arms:
            rows.append({"experiment": args.name, "arm": arm, "seed": seed, "seconds": seconds[arm], "commit": commit(),
                         "command": f"experiment.py {args.name} --seeds {seed}", **measure(folder / arm, chosen.goal)})
    print(f"\nyours:\n{summary(rows, args.name)}")
    if args.record:
        with open(RESULTS, "a", newline="") as file:
            csv.DictWriter(file, FIELDS).writerows(rows)
    print(f"\ntensorboard --logdir {args.folder / args.name}      # all curves")


if __name__ == "__main__":
    sys.exit(main())
