"""Experiments: write down what you expect, run two or more arms, compare with what five seeds showed.

    python tests/assignments/experiment.py                    # the list
    python tests/assignments/experiment.py n_step             # all arms, seed 1
    python tests/assignments/experiment.py n_step --seeds 1 2 3 4 5
    tensorboard --logdir experiments/n_step

Each arm is an edited copy or other settings of ca2e_ddpg_mujoco.py, run in one process (`--sync`), two at a time; the
command of each is printed. `results/experiments.csv` holds what was measured when these were written.
"""

import argparse
import csv
import itertools
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from common import DDPG, ROOT
from runs import PENDULUM, curves, over, run

RESULTS = Path(__file__).parent / "results" / "experiments.csv"
FIELDS = ["experiment", "arm", "seed", "mean", "reached", "final", "retired", "seconds", "commit", "command"]
REACHER = ["--env-id", "Reacher-v5", "--sync", "--no-cuda", "--total-timesteps", "20000", "--learning-starts", "2000",
           "--tau", "0.005", "--critic-l2", "0", "--eval-frequency", "1000", "--eval-episodes", "20", "--buffer-size",
           "20000"]
LITERAL = [("    threshold = average_return + (ratio - 1) * abs(average_return)", "    threshold = ratio * average_return")]


@dataclass
class Experiment:
    question: str
    flags: list  # of all arms
    goal: float  # a greedy return that two evaluations in a row should reach
    arms: dict  # name: (edits, further flags)


def one_prior(name: str) -> list:
    return ["--prior-dir", f"one_prior/{name}"]


EXPERIMENTS = {
    "n_step": Experiment("Does a longer return learn faster? n = 1, 3, 10.", PENDULUM, 900, {
        "n1": ([], ["--n-step", "1"]), "n3": ([], []), "n10": ([], ["--n-step", "10"])}),
    "tau": Experiment("How fast should the target networks follow?", PENDULUM, 900, {
        "tau0.001": ([], ["--tau", "0.001"]), "tau0.01": ([], []), "tau1": ([], ["--tau", "1"])}),
    "priors": Experiment("Do priors help, and does it matter how good they are?", PENDULUM, 900, {
        "none": ([], ["--num-prior-actors", "0", "--num-nature-actors", "8"]),
        "weak": ([], one_prior("ddpg")), "middle": ([], one_prior("td3")), "good": ([], one_prior("n-step-ddpg"))}),
    "priorities": Experiment("Does prioritized replay pay on an easy task?", PENDULUM, 900, {
        "prioritized": ([], []), "uniform": ([], ["--per-alpha", "0"])}),
    "retirement": Experiment("What does the rule as the paper prints it, r >= alpha rbar, do where returns are negative?",
                             REACHER, -6, {"literal": (LITERAL, []), "mended": ([], [])}),
}


def measure(place: Path, total: int, goal: float) -> dict:
    """Of a run: mean greedy return, step of the first of two evaluations that reach goal, 20 final games, retirement."""
    found = curves(place)
    steps, values = found.get("charts/eval_return", (np.zeros(0), np.zeros(0)))
    both = [int(step) for step, one, two in zip(steps, values, values[1:]) if min(one, two) >= goal]
    acting_steps, acting = found.get("priors/acting", (np.zeros(0), np.zeros(0)))
    retired = acting_steps[acting == 0] if acting.any() else []
    return {"mean": round(over((steps, values), 0, total), 3), "reached": both[0] if both else "never",
            "final": round(float(found["charts/final_return"][1][-1]), 2) if "charts/final_return" in found else "",
            "retired": int(retired[0]) if len(retired) else "" if not acting.any() else "never"}


def permutation_p(one: list[float], other: list[float]) -> float:
    """How often a random split of both arms' seeds differs as much in its means as this one: all splits, both signs."""
    both, n = np.array(one + other), len(one)
    splits = [list(chosen) for chosen in itertools.combinations(range(len(both)), n)]
    differences = [abs(both[chosen].mean() - np.delete(both, chosen).mean()) for chosen in splits]
    return float(np.mean(np.array(differences) >= abs(np.mean(one) - np.mean(other)) - 1e-9))


def summary(rows: list[dict], name: str) -> str:
    """A line for each arm: its seeds' figures, sorted, their median, and p of the means against the first arm's."""
    lines = [f"{'':12}{'mean greedy return: median (each seed)':50}{'p':>6}{'final 20':>10}{'reached':>9}{'retired':>9}"]
    first = [float(row["mean"]) for row in rows if row["experiment"] == name
             and row["arm"] == next(iter(EXPERIMENTS[name].arms))]
    for arm in EXPERIMENTS[name].arms:
        own = [row for row in rows if row["experiment"] == name and row["arm"] == arm]
        if not own:
            continue
        means, finals = (sorted(float(row[key]) for row in own if row[key] != "") for key in ("mean", "final"))
        steps = [np.median([float("inf") if row[key] == "never" else float(row[key]) for row in own if row[key] != ""]
                           or [np.nan]) for key in ("reached", "retired")]
        text = ["never" if np.isinf(step) else "-" if np.isnan(step) else f"{step:,.0f}" for step in steps]
        each = f"{np.median(means):.4g} ({', '.join(format(mean, '.4g') for mean in means)})"
        p = "" if arm == next(iter(EXPERIMENTS[name].arms)) or len(means) < 3 else f"{permutation_p(means, first):.2f}"
        lines.append(f"{arm:12}{each:50}{p:>6}{np.median(finals) if finals else np.nan:>10.5g}{text[0]:>9}{text[1]:>9}")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", nargs="?", choices=EXPERIMENTS)
    parser.add_argument("--seeds", type=int, nargs="+", default=[1])
    parser.add_argument("--folder", type=Path, default=Path("experiments"), help="where the copies and curves go")
    parser.add_argument("--at-once", type=int, default=2, help="runs at a time; one for each core")
    parser.add_argument("--record", action="store_true", help="append the figures to results/experiments.csv")
    args = parser.parse_args()
    if not args.name:
        return print("\n".join(f"{name:12} {found.question}" for name, found in EXPERIMENTS.items()))
    chosen, rows = EXPERIMENTS[args.name], []
    total = int(chosen.flags[chosen.flags.index("--total-timesteps") + 1])
    for name in ("ddpg", "td3", "n-step-ddpg"):  # folders of one prior each, for the experiment `priors`
        if args.name == "priors":
            place = (args.folder / f"one_prior/{name}/InvertedPendulum-v5").resolve()
            place.mkdir(parents=True, exist_ok=True)
            (place / f"{name}.pt").write_bytes((ROOT / f"priors/InvertedPendulum-v5/{name}.pt").read_bytes())
    print(chosen.question)
    for seed in args.seeds:
        folder, arms = args.folder / args.name / f"seed{seed}", {}
        for arm, (edits, flags) in chosen.arms.items():
            flags = [str(args.folder.resolve() / flag) if flag.startswith("one_prior/") else flag for flag in flags]
            arms[arm] = edits, chosen.flags + flags
            if seed == args.seeds[0]:
                print(f"  {arm}: {DDPG}{', edited,' * bool(edits)} {' '.join(arms[arm][1])}")
        print(f"seed {seed}, in {folder}", end=" ", flush=True)
        begun = time.monotonic()
        run(folder, arms, seed, args.at_once)
        seconds = round(time.monotonic() - begun)
        for arm, (edits, flags) in arms.items():
            rows.append({"experiment": args.name, "arm": arm, "seed": seed, "seconds": seconds,
                         "commit": subprocess.run(["git", "-C", ROOT, "rev-parse", "--short", "HEAD"], text=True,
                                                  capture_output=True).stdout.strip(),
                         "command": " ".join([DDPG, *("(edited)" for _ in edits), *chosen.flags,
                                              *chosen.arms[arm][1], "--seed", str(seed)]),
                         **measure(folder / arm, total, chosen.goal)})
            if args.record:
                RESULTS.parent.mkdir(exist_ok=True)
                new = not RESULTS.exists()
                with open(RESULTS, "a", newline="") as file:
                    writer = csv.DictWriter(file, FIELDS)
                    if new:
                        writer.writeheader()
                    writer.writerow(rows[-1])
    print(f"\nyours:\n{summary(rows, args.name)}")
    if RESULTS.exists() and not args.record:
        with open(RESULTS) as file:
            print(f"\nmeasured when this was written:\n{summary(list(csv.DictReader(file)), args.name)}")
    print(f"\ntensorboard --logdir {args.folder / args.name}      # all curves")


if __name__ == "__main__":
    sys.exit(main())
