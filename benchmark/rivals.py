"""What a user would pick instead, trained and evaluated as our runs are: stable-baselines3's agents, one run a call.

    python benchmark/rivals.py td3 Hopper-v5 --seed 1 --steps 300000     # benchmark/results/rival_td3_Hopper-v5_s1.csv
    python benchmark/rivals.py td3 Hopper-v5 --noise 0.1                 # as TD3's paper has it; the library adds none
    python benchmark/rivals.py ppo Reacher-v5 --seed 1 --steps 150000
    timeout 40m python benchmark/rivals.py dqn PongNoFrameskip-v4 --seed 1 --threads 2

Control: the library's own defaults, one thread; every 5,000 steps 10 greedy episodes in an environment of their own,
as CA2E-DDPG has them. Atari: the settings that rl-baselines3-zoo tuned, which are meant for 10M steps; so exploration
ends at 50,000 steps (not a million), as in our command, and learning starts at 10,000 (not 100,000). Every 25,000
steps 5 greedy full games. A run that was stopped goes on from its last save by the same command (state in --state).
"""

import argparse
import csv
import shutil
import sys
import time
from pathlib import Path

import ale_py
import gymnasium as gym
import numpy as np
import torch
from stable_baselines3 import DDPG, DQN, PPO, TD3
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.env_util import make_atari_env, make_vec_env
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.noise import NormalActionNoise
from stable_baselines3.common.vec_env import VecFrameStack, VecTransposeImage

gym.register_envs(ale_py)
RESULTS = Path(__file__).parent / "results"
COLUMNS = ["step", "greedy_mean", "greedy_std", "cpu_seconds", "wall_seconds", "seed", "command"]
SAVE = 25_000  # steps between saves
KINDS = {"td3": TD3, "ppo": PPO, "ddpg": DDPG, "dqn": DQN}
TUNED = dict(learning_rate=1e-4, buffer_size=100_000, batch_size=32, train_freq=4, gradient_steps=1,
             target_update_interval=1000, exploration_final_eps=0.01, learning_starts=10_000)


def make(args, evaluation=False):
    """The task; for an evaluation of Atari whole games, unclipped."""
    if args.algorithm != "dqn":
        return make_vec_env(args.env_id, seed=args.seed)
    whole = dict(terminal_on_life_loss=False, clip_reward=False) if evaluation else {}
    return VecTransposeImage(VecFrameStack(make_atari_env(args.env_id, seed=args.seed, wrapper_kwargs=whole), 4))


def clocks():
    """Seconds of all threads together, and of the clock on the wall."""
    return np.array([time.process_time(), time.perf_counter()])


class Curve(BaseCallback):
    """Evaluates, writes a row, and saves now and then what the run can go on from."""

    def __init__(self, args, rows, folder):
        super().__init__()
        self.args, self.rows, self.folder, self.env = args, rows, folder, make(args, evaluation=True)
        self.every, self.episodes = (25_000, 5) if args.algorithm == "dqn" else (5_000, 10)
        self.before = np.array([float(rows[-1][name]) if rows else 0.0 for name in COLUMNS[3:5]])
        self.start = clocks()

    def _on_step(self):
        if self.num_timesteps % self.every == 0:
            paused = clocks()
            cpu, wall = self.before + paused - self.start  # evaluations left out
            self.env.seed(1_000_000 * self.args.seed + self.num_timesteps)
            mean, std = evaluate_policy(self.model, self.env, n_eval_episodes=self.episodes, deterministic=True)
            self.rows.append(dict(zip(COLUMNS, (
                self.num_timesteps, round(mean, 3), round(std, 3), round(cpu, 1), round(wall, 1), self.args.seed,
                "python " + " ".join(sys.argv)))))
            new = self.folder / "new.csv"
            with open(new, "w", newline="") as file:
                writer = csv.DictWriter(file, COLUMNS)
                writer.writeheader()
                writer.writerows(self.rows)
            shutil.copy(new, self.args.csv)  # if that is cut short, new.csv is whole
            if self.num_timesteps % SAVE == 0:
                for save, name in (("save_replay_buffer", "replay.pkl"), ("save", "model.zip")):  # the model last
                    if hasattr(self.model, save):
                        getattr(self.model, save)(self.folder / f"new_{name}")
                        (self.folder / f"new_{name}").replace(self.folder / name)  # never half a file
            self.start += clocks() - paused
        return True


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("algorithm", choices=list(KINDS))
    parser.add_argument("env_id")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--steps", type=int, default=300_000)
    parser.add_argument("--noise", type=float, default=0.0, choices=(0.0, 0.1), help="of TD3, DDPG: its deviation, for actions in [-1, 1]")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--state", default="runs", help="folder of what a stopped run goes on from")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    name = f"rival_{args.algorithm}{'_noise' if args.noise else ''}_{args.env_id}_s{args.seed}"
    folder = Path(args.state) / name
    folder.mkdir(parents=True, exist_ok=True)
    args.csv = RESULTS / f"{name}.csv"
    kind, rows = KINDS[args.algorithm], []
    if (folder / "model.zip").exists():
        model = kind.load(folder / "model", env=make(args), device="cpu")
        if hasattr(model, "load_replay_buffer"):
            model.load_replay_buffer(folder / "replay")
        rows = [row for row in csv.DictReader(open(args.csv)) if int(row["step"]) <= model.num_timesteps]
    else:
        tuned = dict(TUNED, exploration_fraction=50_000 / args.steps) if args.algorithm == "dqn" else {}
        policy = "CnnPolicy" if args.algorithm == "dqn" else "MlpPolicy"
        env = make(args)
        if args.noise:
            size = env.action_space.shape
            tuned["action_noise"] = NormalActionNoise(np.zeros(size), np.full(size, args.noise))
        model = kind(policy, env, seed=args.seed, device="cpu", **tuned)
    left = args.steps - model.num_timesteps
    if left > 0:
        model.learn(left, callback=Curve(args, rows, folder), reset_num_timesteps=False)


if __name__ == "__main__":
    main()
