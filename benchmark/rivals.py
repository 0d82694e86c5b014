"""What a user would pick instead, trained and evaluated as our runs are: stable-baselines3's agents, one run a call.

    python benchmark/rivals.py td3 Hopper-v5 --seed 1 --steps 300000     # benchmark/results/rival_td3_Hopper-v5_s1.csv
    python benchmark/rivals.py ppo Reacher-v5 --seed 1 --steps 150000

The library's own defaults, one thread. Every 5,000 steps 10 greedy episodes in an environment of their own, as
CA2E-DDPG has them. A run that was stopped goes on from its last save by the same command (state in --state).
"""

import argparse
import csv
import sys
import time
from pathlib import Path

import gymnasium as gym
import torch
from stable_baselines3 import DDPG, PPO, TD3
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.monitor import Monitor

RESULTS = Path(__file__).parent / "results"
COLUMNS = ["step", "greedy_mean", "greedy_std", "cpu_seconds", "seed", "command"]
EVALUATE, SAVE = 5_000, 25_000  # steps between evaluations, between saves


class Curve(BaseCallback):
    """Evaluates, writes a row, and saves now and then what the run can go on from."""

    def __init__(self, args, rows, folder):
        super().__init__()
        self.args, self.rows, self.folder = args, rows, folder
        self.env = Monitor(gym.make(args.env_id))
        self.before, self.start = (float(rows[-1]["cpu_seconds"]) if rows else 0.0), time.process_time()

    def _on_step(self):
        if self.num_timesteps % EVALUATE == 0:
            trained = self.before + time.process_time() - self.start  # of this process, evaluations left out
            paused = time.process_time()
            self.env.reset(seed=1_000_000 * self.args.seed + self.num_timesteps)
            mean, std = evaluate_policy(self.model, self.env, n_eval_episodes=10, deterministic=True)
            self.rows.append({"step": self.num_timesteps, "greedy_mean": round(mean, 3), "greedy_std": round(std, 3),
                              "cpu_seconds": round(trained, 1), "seed": self.args.seed,
                              "command": "python " + " ".join(sys.argv)})
            with open(self.args.csv, "w", newline="") as file:
                writer = csv.DictWriter(file, COLUMNS)
                writer.writeheader()
                writer.writerows(self.rows)
            if self.num_timesteps % SAVE == 0:
                self.model.save(self.folder / "model")
                if hasattr(self.model, "save_replay_buffer"):
                    self.model.save_replay_buffer(self.folder / "replay")
            self.start += time.process_time() - paused
        return True


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("algorithm", choices=["td3", "ppo", "ddpg"])
    parser.add_argument("env_id")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--steps", type=int, default=300_000)
    parser.add_argument("--state", default="runs", help="folder of what a stopped run goes on from")
    args = parser.parse_args()
    torch.set_num_threads(1)
    name = f"rival_{args.algorithm}_{args.env_id}_s{args.seed}"
    folder = Path(args.state) / name
    folder.mkdir(parents=True, exist_ok=True)
    args.csv = RESULTS / f"{name}.csv"
    kind, rows = {"td3": TD3, "ppo": PPO, "ddpg": DDPG}[args.algorithm], []
    if (folder / "model.zip").exists():
        model = kind.load(folder / "model", env=gym.make(args.env_id), device="cpu")
        if hasattr(model, "load_replay_buffer"):
            model.load_replay_buffer(folder / "replay")
        rows = [row for row in csv.DictReader(open(args.csv)) if int(row["step"]) <= model.num_timesteps]
    else:
        model = kind("MlpPolicy", gym.make(args.env_id), seed=args.seed, device="cpu")
    left = args.steps - model.num_timesteps
    if left > 0:
        model.learn(left, callback=Curve(args, rows, folder), reset_num_timesteps=False)


if __name__ == "__main__":
    main()
