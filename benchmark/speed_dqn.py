"""Speed and memory of CA2E-DQN on this machine, with stable-baselines3 DQN side by side.

    pip install -r benchmark/requirements.txt
    python benchmark/speed_dqn.py            # 8 minutes; writes benchmark/results/speed_dqn.csv

Both train Pong at 8 samples an insert (batch 32, every 4 steps), the same network (layer norm included), epsilon at
its final value, no evaluation; in turn, A B A B, so that the ratio holds when the machine's speed drifts. Ours also
computes the double-Q target (one more forward pass), priorities and importance weights, which theirs does not.
"""

import csv
import multiprocessing as mp
import os
import platform
import subprocess
import sys
import tempfile
import time
from multiprocessing import managers
from pathlib import Path

import numpy as np
import torch

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))
import ca2e_dqn_atari as ca2e  # noqa: E402

ca2e.BATCHES_PER_CALL = 1  # for the timing of a single batch; here, and in the manager process that imports this
ROUNDS, SECONDS = 2, 30


def ours(*flags):
    """Steps/s of a whole CA2E run, from its progress lines, once it learns."""
    with tempfile.TemporaryDirectory() as folder:
        process = subprocess.Popen(
            [sys.executable, "-u", str(ROOT / "ca2e_dqn_atari.py"), "--learning-starts", "1000",
             "--exploration-steps", "1", "--eval-frequency", "100000000", "--buffer-size", "100000",
             "--prior-dir", str(ROOT / "priors"), *flags],
            cwd=folder, stdout=subprocess.PIPE, text=True)
        seen = []
        for line in process.stdout:
            if line.startswith("step "):
                step, updates = int(line.split()[1].replace(",", "")), float(line.split("|")[2].split()[0])
                if updates > 0:
                    seen.append((time.time(), step))
                if len(seen) > 1 and seen[-1][0] - seen[0][0] >= SECONDS - 1:
                    break
        process.terminate()
        process.communicate()
    return (seen[-1][1] - seen[0][1]) / (seen[-1][0] - seen[0][0])


def theirs(threads):
    """Steps/s of stable-baselines3 DQN, in a process of its own, once it learns."""
    code = f"""
import time, torch, torch.nn as nn, gymnasium as gym, ale_py
from stable_baselines3 import DQN
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.env_util import make_atari_env
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor
from stable_baselines3.common.vec_env import VecFrameStack
torch.set_num_threads({threads})
gym.register_envs(ale_py)
class Features(BaseFeaturesExtractor):
    def __init__(self, space):
        super().__init__(space, 512)
        self.layers = nn.Sequential(nn.Conv2d(4, 32, 8, 4), nn.ReLU(), nn.Conv2d(32, 64, 4, 2), nn.ReLU(),
            nn.Conv2d(64, 64, 3), nn.ReLU(), nn.Flatten(), nn.Linear(3136, 512), nn.LayerNorm(512), nn.ReLU())
    def forward(self, x): return self.layers(x)
class Clock(BaseCallback):
    start = None
    def _on_step(self):
        if self.num_timesteps == 1200: self.start = time.time()
        return self.start is None or time.time() - self.start < {SECONDS}
env = VecFrameStack(make_atari_env("PongNoFrameskip-v4", n_envs=1, seed=1), 4)
model = DQN("CnnPolicy", env, learning_rate=1e-4, buffer_size=20000, learning_starts=1000, batch_size=32, train_freq=4,
            gradient_steps=1, target_update_interval=10000, exploration_fraction=1e-9, exploration_final_eps=0.1,
            policy_kwargs=dict(features_extractor_class=Features, net_arch=[]), device="cpu")
clock = Clock()
model.learn(10**7, callback=clock)
print((model.num_timesteps - 1200) / (time.time() - clock.start))
"""
    return float(subprocess.run([sys.executable, "-W", "ignore", "-c", code], capture_output=True, text=True,
                                check=True).stdout.split()[-1])


def sample_call(slots):
    """Milliseconds of one manager call that refreshes 32 priorities and samples a batch of 32 from slots: median."""
    args = ca2e.Args(num_nature_actors=1, num_prior_actors=0, buffer_size=slots, local_buffer_size=10,
                     learning_starts=0, samples_per_insert=0)
    context = mp.get_context("forkserver")
    manager = managers.BaseManager(ctx=context)
    manager.start()
    replay = manager.PrioritizedReplay(
        args, [], {"global_step": 0, "prior_steps": 0, "updates": 0, "evaluations": [], "roles": [0]})
    priorities = np.random.default_rng(0).random(slots)
    for first in range(0, slots - 100, 10_000):
        ids = np.arange(first, min(first + 10_000, slots - 100))
        replay.add(0, int(ids[-1]) + 1, ids, priorities[ids], [])
    ids, new = np.zeros(0, np.int64), np.zeros(0)
    times = []
    for _ in range(3000):
        start = time.perf_counter()
        ids, _, _, _ = replay.sample(ids, new)
        times.append(time.perf_counter() - start)
        ids, new = ids.ravel(), np.full(ids.size, 0.5)
    manager.shutdown()
    return 1000 * float(np.median(times))


def memory(slots):
    """GB that slots of the replay take in memory: when created, half full, full."""
    def resident():
        lines = Path("/proc/self/smaps").read_text().split("memfd:ca2e")[1].splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith("Rss:")) * 1024 / 1e9

    store, found = ca2e.SharedArray(slots, ca2e.SLOT), []
    for first, last in ((0, 0), (0, slots // 2), (slots // 2, slots)):
        for slot in range(first, last, 1000):
            store.array[slot : slot + 1000] = np.ones(1, store.array.dtype)
        found.append(resident())
    return found


def update():
    """Milliseconds of the bare update on a batch that is there, on one thread, float32 and bfloat16: median."""
    rng, found = np.random.default_rng(0), []
    states = rng.integers(0, 256, (2, 32, 4, 84, 84)).astype(np.uint8)
    column = np.ones(32, np.float32)
    batch = (states[0], np.zeros(32, np.int64), column, column, states[1], column)
    torch.set_num_threads(1)
    for bf16 in (False, True):
        agent, times = ca2e.DQN(ca2e.Args(bf16=bf16), 6, torch.device("cpu"), 0), []
        for _ in range(100):
            start = time.perf_counter()
            agent.update(batch, 0)
            times.append(time.perf_counter() - start)
        found.append(1000 * float(np.median(times)))
    return found


def main():
    """Measures everything and writes the table."""
    rows = []

    def row(what, value, unit):
        rows.append([what, round(value, 3), unit])
        print(f"{what}: {value:.3f} {unit}", flush=True)

    for slots in (10_000, 100_000, 1_000_000):
        row(f"manager call, a batch of 32 from {slots:,}", sample_call(slots), "ms")
    for name, value in zip(("created", "half full", "full"), memory(1_000_000)):
        row(f"replay of 1,000,000, {name}", value, "GB")
    for name, value in zip(("float32", "bfloat16"), update()):
        row(f"bare update, one thread, {name}", value, "ms")
    speeds = {"CA2E-DQN": [], "CA2E-DQN --bf16": [],
              "SB3 DQN, 1 thread": [], f"SB3 DQN, {os.cpu_count()} threads": []}
    for turn in range(ROUNDS):
        for name in speeds:
            if name.startswith("CA2E"):
                value = ours(*name.split()[1:])
            else:
                value = theirs(int(name.split()[2]))
            speeds[name].append(value)
            row(f"{name}, round {turn + 1}", value, "steps/s")
    best = [max(pair) for pair in zip(*list(speeds.values())[2:])]
    for name in list(speeds)[:2]:
        ratios = [mine / other for mine, other in zip(speeds[name], best)]
        row(f"{name} / the better SB3, median of rounds", float(np.median(ratios)), "times")
    with open(ROOT / "benchmark" / "results" / "speed_dqn.csv", "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["what", "value", "unit"])
        writer.writerow(["machine", f"{os.cpu_count()} cores, {platform.machine()}, torch {torch.__version__}", ""])
        writer.writerows(rows)


if __name__ == "__main__":
    main()
