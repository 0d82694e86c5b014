"""The paper's Figure 3: CA2E-DDPG with and without priors on Hopper and Reacher, beside library baselines.

    python benchmark/figure3.py run Hopper-v5 300000 ca2e 1 2 3      # three seeds; each 10 to 15 minutes
    python benchmark/figure3.py run Hopper-v5 300000 no_prior 1 2 3  # the ablation
    python benchmark/figure3.py plot                                 # benchmark/results/figure3.png
    python benchmark/figure3.py table                                # the README's table

A run that was interrupted is resumed by the same command; one that is done (its CSV is there) is not done again. The
library baselines (stable-baselines3 PPO, A2C, DDPG; one seed each) are the CSV files sb3_*.csv.
"""

import csv
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import torch
from curves import RESULTS, write_csv

sys.path.insert(0, str(Path(__file__).parents[1]))
import ca2e_ddpg_mujoco as ddpg

ROOT = Path(__file__).parents[1]
WORK = Path(__file__).parent / "work"
CODE = f"""
import sys
sys.path.insert(0, {str(ROOT)!r})
import ca2e_ddpg_mujoco as ca2e
ca2e.SAVE_SECONDS = 20
ca2e.main(ca2e.parse())
"""  # the script, saving more often: the snapshots are for inside.py
FLAGS = {  # the README's laptop settings, and an evaluation every 1,000 steps on the pendulum
    "Hopper-v5": ["--tau", "0.005", "--critic-l2", "0"],
    "Reacher-v5": ["--tau", "0.005", "--critic-l2", "0"],
    "InvertedPendulum-v5": ["--learning-starts", "1000", "--eval-frequency", "1000"],
}
KINDS = {  # the folder of the priors, and the flags
    "ca2e": ("priors", []),
    "no_prior": ("priors", ["--num-prior-actors", "0"]),
    "one_prior": ("best", ["--num-prior-actors", "1"]),
    "best": ("best", []),
    "weak": ("weak", []),
    "random": ("random", []),
    "uniform": ("priors", ["--per-alpha", "0"]),
}
LABELS = {"ca2e": "CA2E-DDPG", "no_prior": "the same without priors"}
# steps that trained the three shipped priors, in all
PRIOR_STEPS = {"Hopper-v5": 315_000, "Reacher-v5": 155_000}


def choose_priors(env_id, which):
    """A folder for --prior-dir: all that ship ("priors"), only the best or the weakest of them, or a random one."""
    if which == "priors":
        return ROOT / which
    folder = WORK / which / env_id
    folder.mkdir(parents=True, exist_ok=True)
    shipped = {path: torch.load(path, weights_only=True) for path in (ROOT / "priors" / env_id).glob("*.pt")}
    if which == "random":
        torch.manual_seed(0)
        network = ddpg.Actor(ddpg.make_control(env_id))
        average = float(ddpg.play_control(env_id, network, 20, 1).mean())
        prior = {**next(iter(shipped.values())), "network": network.state_dict(), "average_return": average}
    else:
        prior = (max if which == "best" else min)(shipped.values(), key=lambda prior: prior["average_return"])
    ddpg.save_checkpoint(folder / "prior.pt", prior)
    return folder.parent


def run(env_id, steps, kind, *seeds):
    """Trains CA2E or a variant, seed by seed, each in a folder of its own under benchmark/work."""
    which, flags = KINDS[kind]
    for seed in seeds:
        name = f"{env_id.split('-')[0].lower()}_{kind}_s{seed}"
        name += "_1m" if int(steps) == 1_000_000 else ""
        if (RESULTS / f"{name}.csv").exists():
            continue
        folder = WORK / name
        (folder / "snapshots").mkdir(parents=True, exist_ok=True)
        arguments = ["--env-id", env_id, "--total-timesteps", steps, "--seed", seed, *FLAGS[env_id], *flags]
        command = " ".join(["python ca2e_ddpg_mujoco.py", *arguments])
        command += f" --prior-dir {which}" if which != "priors" else ""
        found = sorted(folder.glob("runs/*/agent.pt"))
        call = ["--resume", str(found[0].parent.relative_to(folder))] if found else arguments
        process = subprocess.Popen([sys.executable, "-u", "-c", CODE, "--prior-dir",
                                    str(choose_priors(env_id, which)), *call], cwd=folder)
        newest = 0
        while process.poll() is None:
            time.sleep(1)
            for path in folder.glob("runs/*/agent.pt"):
                if path.stat().st_mtime != newest:
                    newest = path.stat().st_mtime
                    shutil.copy(path, folder / "snapshots" / f"{time.time():.0f}.pt")
        if process.returncode:
            sys.exit(f"error: {name} ended with status {process.returncode}")
        (done,) = folder.glob("runs/*/agent.pt")
        write_csv(str(done.parent), name, command)


def curves(env_id, kind):
    """(steps, wall seconds, greedy means) of each seed that is done; the last row, the final 20 episodes, left out."""
    found = []
    for path in sorted(RESULTS.glob(f"{env_id.split('-')[0].lower()}_{kind}_s*.csv")):
        rows = list(csv.DictReader(open(path)))[:-1]
        found.append([np.array([float(row[key]) for row in rows]) for key in ("step", "wall_seconds", "greedy_mean")])
    return found


def baselines(env_id):
    """(name, steps, wall seconds, greedy means) of the library's runs."""
    for path in sorted(RESULTS.glob(f"sb3_*_{env_id}_s*.csv")):
        rows = list(csv.DictReader(open(path)))
        yield (path.stem.split("_")[1].upper(),
               *(np.array([float(row[key]) for row in rows]) for key in ("step", "train_seconds", "mean_return")))


def plot():
    """Greedy return over steps, over wall time, and over steps with those of the priors counted in.

    Thin: each seed; thick: the mean of the seeds, each smoothed over five evaluations in a row.
    """
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(2, 3, figsize=(15, 8), sharey="row")
    for row, env_id in zip(axes, PRIOR_STEPS):
        for axis, (label, scale, column) in zip(row, (("environment steps, all actors", 1, 0),
                                                      ("minutes, two runs at once on two cores", 60, 1),
                                                      ("steps, those that trained the priors counted in", 1, 0))):
            for kind, colour in zip(KINDS, ("tab:red", "tab:blue")):
                shift = PRIOR_STEPS[env_id] if "counted" in label and kind == "ca2e" else 0
                seeds = curves(env_id, kind)
                for curve in seeds:
                    axis.plot((curve[column] + shift) / scale, curve[2], color=colour, alpha=0.2, linewidth=0.8)
                if seeds:  # the mean of all seeds' evaluations, over five in a row
                    grid = np.linspace(0, min(curve[column][-1] for curve in seeds), 60)
                    mean = np.mean([np.interp(grid, curve[column][2:-2], np.convolve(curve[2], np.ones(5) / 5, "valid"))
                                    for curve in seeds], 0)
                    axis.plot((grid + shift) / scale, mean, color=colour, linewidth=2,
                              label=f"{LABELS[kind]}, {len(seeds)} seeds, mean of 5 evaluations")
            for (name, *curve), colour in zip(baselines(env_id), ("0.3", "0.5", "0.7")):
                axis.plot(curve[column] / scale, curve[2], color=colour, linewidth=0.8, label=f"stable-baselines3 {name}")
            axis.set(xlabel=label, title=env_id)
            axis.grid(alpha=0.3)
        row[0].set_ylabel("greedy return")
        row[0].legend(fontsize=8)
        last = max((curve[0].max() for kind in KINDS for curve in curves(env_id, kind)), default=1)
        row[0].set_xlim(0, last)
        row[1].set_xlim(0, max((curve[1].max() / 60 for kind in KINDS for curve in curves(env_id, kind)), default=1))
        row[2].set_xlim(0, last + PRIOR_STEPS[env_id])
        if env_id == "Reacher-v5":
            row[0].set_ylim(-15, -2)
    figure.tight_layout()
    figure.savefig(RESULTS / "figure3.png", dpi=90)


def reached(steps, means, level):
    """The first step from which two evaluations running are at the level or above; None if there is none."""
    both = np.flatnonzero((means[:-1] >= level) & (means[1:] >= level))
    return int(steps[both[0]]) if len(both) else None


def table():
    """Steps to the levels, and the mean of the last ten evaluations, seed by seed."""
    for env_id, levels in (("Hopper-v5", (1000, 2000)), ("Reacher-v5", (-6, -5, -4.5))):
        for kind in KINDS:
            for steps, _, means in curves(env_id, kind):  # by seed
                print(env_id, LABELS[kind], {level: reached(steps, means, level) for level in levels},
                      f"last ten: {means[-10:].mean():.1f}", f"to {int(steps[-1]):,}", sep=" | ")
        for name, steps, _, means in baselines(env_id):
            print(env_id, name, "seed 1", {level: reached(steps, means, level) for level in levels},
                  f"last ten: {means[-10:].mean():.1f}", f"to {int(steps[-1]):,}", sep=" | ")


if __name__ == "__main__":
    {"run": run, "plot": plot, "table": table}[sys.argv[1]](*sys.argv[2:])
