"""Turns TensorBoard runs into the curves under benchmark/results/: one CSV a run, one plot of all.

    python benchmark/curves.py csv runs/<name> NAME "the command of the run" COMMIT    # benchmark/results/NAME.csv
    python benchmark/curves.py plot OUT.png "Title" NAME=label NAME=label ...   # benchmark/results/OUT.png
    python benchmark/curves.py plot OUT.png "Title" NAME=label=1972000 ...      # and with so many steps of its priors
"""

import csv
import os
import platform
import sys
from pathlib import Path

import numpy as np

RESULTS = Path(__file__).parent / "results"
COLUMNS = ["step", "nature_steps", "prior_steps", "greedy_mean", "greedy_std", "wall_seconds", "updates",
           "acting_priors", "q_values", "machine", "seed", "command", "commit"]
COLOURS = ["#D55E00", "#0072B2", "#009E73", "#CC79A7", "#E69F00"]  # Okabe and Ito: told apart by colour-blind readers, too
LINES = ["o-", "s--", "^:", "v-.", "D-"]


def write_csv(run, name, command, commit=""):
    """One row an evaluation; a CA2E run that came to its end adds a last one, over its newest 20 games."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    parts = Path(run).name.split("__")  # env id, algorithm, seed; of CA2E: env id, algorithm, priors, seed, time
    if not Path(run).is_dir() or len(parts) < 3:
        sys.exit(f"error: {run} is no run's folder, runs/<env-id>__<algorithm>__<seed>...")
    events = EventAccumulator(run, size_guidance={"scalars": 0})
    events.Reload()
    scalars = {tag: events.Scalars(tag) for tag in events.Tags()["scalars"]}
    if "charts/eval_return" not in scalars:
        sys.exit(f"error: {run} holds no evaluation")
    first = events.FirstEventTimestamp()
    machine = f"{os.cpu_count()} cores {platform.machine()}"

    def at(tag, step, *start):
        """The value of a scalar at step, between the lines that are logged every ten seconds; counters start at 0."""
        logged = scalars.get(tag, [])
        steps, values = [*(0 for _ in start), *(event.step for event in logged)], [event.value for event in logged]
        return np.interp(step, steps, [*start, *values]) if steps else 0

    rows = []
    std = {event.step: event.value for event in scalars["charts/eval_return_std"]}
    for event in scalars["charts/eval_return"] + scalars.get("charts/final_return", [])[-1:]:
        prior = round(at("priors/steps", event.step, 0))
        spread = round(std[event.step], 3) if event.step in std else ""
        rows.append([event.step, event.step - prior, prior, round(event.value, 3), spread, round(event.wall_time - first),
                     round(at("throughput/updates", event.step, 0)) or "", round(at("priors/acting", event.step)),
                     round(at("losses/q_values", event.step), 3), machine, parts[3 if len(parts) > 3 else 2], command,
                     commit])
    with open(RESULTS / f"{name}.csv", "w", newline="") as file:
        csv.writer(file).writerows([COLUMNS, *rows])
    print(f"{RESULTS / name}.csv: {len(rows)} evaluations")


def plot(out, title, *curves):
    """Greedy return over the steps of all actors, and, where a curve names its priors' steps, with those counted in."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    curves = [(curve + "=0").split("=")[:3] for curve in curves]
    arms = list(dict.fromkeys(label.split(", seed")[0] for _, label, _ in curves))  # a colour each; a line style a seed
    looks, seen = [], dict.fromkeys(arms, 0)
    for _, label, _ in curves:
        arm = label.split(", seed")[0]
        looks.append((COLOURS[arms.index(arm)], LINES[seen[arm]]))
        seen[arm] += 1
    counted = any(int(prior_steps) for *_, prior_steps in curves)
    figure, axes = plt.subplots(1, 1 + counted, figsize=(7 + 5 * counted, 4.6), squeeze=False, sharey=True,
                                layout="constrained")
    low = np.inf
    for axis, more in zip(axes[0], (False, True)):
        for (name, label, prior_steps), (colour, line) in zip(curves, looks):
            rows = list(csv.DictReader(open(RESULTS / f"{name}.csv")))
            steps = [(float(row["step"]) + more * int(prior_steps)) / 1000 for row in rows]
            returns = [float(row["greedy_mean"]) for row in rows]
            axis.plot(steps, returns, line, color=colour, label=label)
            low = min([low, *returns[1:]])  # an agent that has not learned yet may be far below
        axis.set_xlabel("thousand steps of all actors" + ", those that trained the priors counted in" * more)
        axis.grid(alpha=0.3)
    top = axes[0, 0].get_ylim()[1]
    axes[0, 0].set(title=title, ylabel="greedy return, full games", ylim=(max(axes[0, 0].get_ylim()[0], low - 0.2 * (top - low)), top))
    handles = axes[0, 0].get_legend_handles_labels()
    figure.legend(*handles, loc="outside lower center", ncols=3, fontsize=9)
    figure.savefig(RESULTS / out, dpi=110)


if __name__ == "__main__":
    if {"-h", "--help"} & {*sys.argv} or len(sys.argv) == 1:
        sys.exit(__doc__)
    {"csv": write_csv, "plot": plot}[sys.argv[1]](*sys.argv[2:])
