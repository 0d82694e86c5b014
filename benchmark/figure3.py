"""The paper's Figure 3: CA2E-DDPG with and without priors on Hopper and Reacher, beside library baselines; ablations.

    python benchmark/figure3.py run Hopper-v5 300000 ca2e 1 2 3      # three seeds; each 10 to 15 minutes
    python benchmark/figure3.py run Hopper-v5 300000 no_prior 1 2 3  # the ablation
    python benchmark/figure3.py plot                                 # benchmark/results/figure3.png
    python benchmark/figure3.py table                                # the README's tables
    python benchmark/figure3.py run InvertedPendulum-v5 30000 weak 1 2 3   # an ablation; KINDS names them
    python benchmark/figure3.py ablations                            # benchmark/results/ablations.png

    python benchmark/figure3.py library Reacher-v5 300000 PPO 1      # a stable-baselines3 agent: sb3_*.csv

A run that was interrupted is resumed by the same command; one that is done (its CSV is there) is not done again. The
library's agents are PPO and A2C as they come, and DDPG with the paper's network and batch.
"""

import csv
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import torch
from curves import COLOURS, RESULTS, write_csv

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
LABELS = {"ca2e": "CA2E-DDPG", "no_prior": "the same without priors", "one_prior": "the best prior, in one actor",
          "best": "the best prior, in three", "weak": "the weakest prior, in three",
          "random": "an untrained network, in three", "uniform": "uniform sampling (--per-alpha 0)"}
ABLATIONS = (("number of prior actors", ("no_prior", "one_prior", "best")),
             ("quality of the prior", ("random", "weak", "best", "ca2e")), ("prioritization", ("ca2e", "uniform")))
LEVELS = {"Hopper-v5": (1000, 2000), "Reacher-v5": (-6, -5, -4.5), "InvertedPendulum-v5": (950,)}
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
    torch.save(prior, folder / "prior.pt")
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
        commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, capture_output=True, text=True)
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
        write_csv(str(done.parent), name, command, commit.stdout.strip())


def library(env_id, steps, algo, seed):
    """Trains a stable-baselines3 agent; a greedy evaluation of ten episodes every 20,000 steps, its time left out."""
    import gymnasium as gym
    import stable_baselines3
    from stable_baselines3.common.evaluation import evaluate_policy
    from stable_baselines3.common.noise import NormalActionNoise

    env, settings = gym.make(env_id), {}
    if algo == "DDPG":
        size = env.action_space.shape
        settings = dict(policy_kwargs=dict(net_arch=[64, 64]), batch_size=128, learning_rate=1e-3,
                        action_noise=NormalActionNoise(np.zeros(size), 0.1 * np.ones(size)))
    model = getattr(stable_baselines3, algo)("MlpPolicy", env, seed=int(seed), device="cpu", **settings)
    rows, spent = [], 0.0
    for _ in range(int(steps) // 20_000):
        start = time.time()
        model.learn(20_000, reset_num_timesteps=False)
        spent += time.time() - start
        mean, std = evaluate_policy(model, gym.wrappers.RecordEpisodeStatistics(gym.make(env_id)), 10)
        rows.append([model.num_timesteps, round(mean, 3), round(std, 3), round(spent, 1)])
        print(rows[-1], flush=True)
    with open(RESULTS / f"sb3_{algo.lower()}_{env_id}_s{seed}.csv", "w", newline="") as file:
        csv.writer(file).writerows([["step", "mean_return", "std_return", "train_seconds"], *rows])


def curves(env_id, kind, suffix=""):
    """(steps, wall seconds, greedy means) of each seed that is done; the last row, the final 20 episodes, left out."""
    found = []
    for path in sorted(RESULTS.glob(f"{env_id.split('-')[0].lower()}_{kind}_s[0-9]{suffix}.csv")):
        rows = list(csv.DictReader(open(path)))[:-1]
        found.append([np.array([float(row[key]) for row in rows]) for key in ("step", "wall_seconds", "greedy_mean")])
    return found


def baselines(env_id):
    """(name, steps, wall seconds, greedy means) of the library's runs."""
    for path in sorted(RESULTS.glob(f"sb3_*_{env_id}_s*.csv")):
        rows = list(csv.DictReader(open(path)))
        yield (path.stem.split("_")[1].upper(),
               *(np.array([float(row[key]) for row in rows]) for key in ("step", "train_seconds", "mean_return")))


def average(seeds, column):
    """(grid, mean over the seeds), each seed smoothed over five evaluations in a row."""
    grid = np.linspace(max(curve[column][2] for curve in seeds), min(curve[column][-3] for curve in seeds), 60)
    smooth = [np.convolve(curve[2], np.ones(5) / 5, "valid") for curve in seeds]
    return grid, np.mean([np.interp(grid, curve[column][2:-2], row) for curve, row in zip(seeds, smooth)], 0)


def plot():
    """Greedy return over steps, over wall time, and over steps with those of the priors counted in.

    Thin: each seed; thick: the mean of the seeds, each smoothed over five evaluations in a row.
    """
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(2, 3, figsize=(15, 8.6), sharey="row", layout="constrained")
    for row, env_id in zip(axes, PRIOR_STEPS):
        for axis, (label, scale, column) in zip(row, (("thousand steps of all actors", 1000, 0),
                                                      ("minutes, two runs at once on two cores", 60, 1),
                                                      ("thousand steps, those that trained the priors counted in", 1000, 0))):
            for kind, colour in (("ca2e", COLOURS[0]), ("no_prior", COLOURS[1])):
                shift = PRIOR_STEPS[env_id] if "counted" in label and kind == "ca2e" else 0
                seeds = curves(env_id, kind)
                for curve in seeds:
                    axis.plot((curve[column] + shift) / scale, curve[2], color=colour, alpha=0.2, linewidth=0.8)
                if seeds:
                    grid, mean = average(seeds, column)
                    axis.plot((grid + shift) / scale, mean, "-" if kind == "ca2e" else "--", color=colour, linewidth=2,
                              label=f"{LABELS[kind]}, {len(seeds)} seeds, mean of 5 evaluations")
            for (name, *curve), colour in zip(baselines(env_id), ("0.2", "0.4", "0.6")):
                axis.plot(curve[column] / scale, curve[2], ":" if name == "PPO" else "-.", color=colour, linewidth=0.8, label=f"stable-baselines3 {name}")
            axis.set(xlabel=label, title=env_id)
            axis.grid(alpha=0.3)
        row[0].set_ylabel("greedy return")
        last = max((curve[0].max() for kind in KINDS for curve in curves(env_id, kind)), default=1)
        row[0].set_xlim(0, last / 1000)
        row[1].set_xlim(0, max((curve[1].max() / 60 for kind in KINDS for curve in curves(env_id, kind)), default=1))
        row[2].set_xlim(0, (last + PRIOR_STEPS[env_id]) / 1000)
        if env_id == "Reacher-v5":
            row[0].set_ylim(-15, -2)
    figure.legend(*axes[0][0].get_legend_handles_labels(), loc="outside lower center", ncols=3)
    figure.savefig(RESULTS / "figure3.png", dpi=90)


def reached(steps, means, level):
    """The first step from which two evaluations running are at the level or above; None if there is none."""
    both = np.flatnonzero((means[:-1] >= level) & (means[1:] >= level))
    return int(steps[both[0]]) if len(both) else None


def ablations():
    """Greedy return over the steps; thin: each seed; thick: their mean, smoothed over five evaluations."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(2, len(ABLATIONS), figsize=(15, 9), sharey="row", layout="constrained")
    for row, env_id in zip(axes, ("InvertedPendulum-v5", "Reacher-v5")):
        last = min(curve[0][-1] for kind in KINDS for curve in curves(env_id, kind))
        for axis, (title, kinds) in zip(row, ABLATIONS):
            for kind, colour, line in zip(kinds, COLOURS, ("-", "--", "-.", ":")):
                seeds = [[column[curve[0] <= last] for column in curve] for curve in curves(env_id, kind)]
                for curve in seeds:
                    axis.plot(curve[0] / 1000, curve[2], color=colour, alpha=0.2, linewidth=0.8)
                grid, mean = average(seeds, 0)
                axis.plot(grid / 1000, mean, line, color=colour, linewidth=2, label=f"{LABELS[kind]}, {len(seeds)} seeds")
            axis.set(xlabel="thousand steps of all actors", title=f"{env_id}: {title}")
            axis.grid(alpha=0.3)
            axis.legend(fontsize=8, loc="upper center", bbox_to_anchor=(0.5, -0.12))
        row[0].set_ylabel("greedy return")
    axes[1][0].set_ylim(-15, -3)
    figure.savefig(RESULTS / "ablations.png", dpi=90)


def table():
    """Steps to the levels, and the mean of the last ten evaluations, seed by seed."""
    for env_id, levels in LEVELS.items():
        for kind in KINDS:
            for suffix in ("", "_1m"):
                for steps, seconds, means in curves(env_id, kind, suffix):  # by seed
                    print(env_id, LABELS[kind], {level: reached(steps, means, level) for level in levels},
                          f"last ten: {means[-10:].mean():.1f}", f"to {int(steps[-1]):,}", f"{seconds[-1] / 60:.1f} min",
                          sep=" | ")
        for name, steps, _, means in baselines(env_id):
            print(env_id, name, "seed 1", {level: reached(steps, means, level) for level in levels},
                  f"last ten: {means[-10:].mean():.1f}", f"to {int(steps[-1]):,}", sep=" | ")


if __name__ == "__main__":
    if {"-h", "--help"} & {*sys.argv} or len(sys.argv) == 1:
        sys.exit(__doc__)
    {"run": run, "library": library, "plot": plot, "ablations": ablations, "table": table}[sys.argv[1]](*sys.argv[2:])
