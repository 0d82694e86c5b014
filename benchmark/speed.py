"""Speed and memory of a CA2E script on this machine, with stable-baselines3 side by side.

    pip install -r benchmark/requirements.txt
    python benchmark/speed.py dqn            # 8 minutes; writes benchmark/results/speed_dqn_atari.csv
    python benchmark/speed.py ddpg           # 4 minutes; writes benchmark/results/speed_ddpg_mujoco.csv

DQN: both train Pong at 8 samples an insert (batch 32, every 4 steps), the same network (layer norm included), epsilon
at its final value. DDPG: both train Hopper-v5 at one update (batch 128) a step, the same networks (64-64, layer norm,
ReLU). No evaluation; in turn, A B A B, so that the ratio holds when the machine's speed drifts. Ours also computes
priorities and importance weights, and, in DQN, the double-Q target (one more forward pass), which theirs does not.
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
import ca2e_ddpg_mujoco as ddpg  # noqa: E402
import ca2e_dqn_atari as dqn  # noqa: E402

dqn.BATCHES_PER_CALL = 1  # for the timing of a single batch; here, and in the manager process that imports this
ROUNDS, SECONDS = 2, 30

CLOCK = """
import time, sys
import torch, torch.nn as nn, numpy as np, gymnasium as gym
from stable_baselines3.common.callbacks import BaseCallback
threads, seconds, start = int(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
torch.set_num_threads(threads)
class Clock(BaseCallback):
    start = None
    def _on_step(self):
        if self.num_timesteps == start: self.start = time.time()
        return self.start is None or time.time() - self.start < seconds
def measure(model):
    clock = Clock()
    model.learn(10**7, callback=clock)
    print((model.num_timesteps - start) / (time.time() - clock.start))
"""
SB3_DQN = CLOCK + """
import ale_py
from stable_baselines3 import DQN
from stable_baselines3.common.env_util import make_atari_env
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor
from stable_baselines3.common.vec_env import VecFrameStack
gym.register_envs(ale_py)
class Features(BaseFeaturesExtractor):
    def __init__(self, space):
        super().__init__(space, 512)
        self.layers = nn.Sequential(nn.Conv2d(4, 32, 8, 4), nn.ReLU(), nn.Conv2d(32, 64, 4, 2), nn.ReLU(),
            nn.Conv2d(64, 64, 3), nn.ReLU(), nn.Flatten(), nn.Linear(3136, 512), nn.LayerNorm(512), nn.ReLU())
    def forward(self, x): return self.layers(x)
env = VecFrameStack(make_atari_env("PongNoFrameskip-v4", n_envs=1, seed=1), 4)
measure(DQN("CnnPolicy", env, learning_rate=1e-4, buffer_size=20000, learning_starts=1000, batch_size=32, train_freq=4,
            gradient_steps=1, target_update_interval=10000, exploration_fraction=1e-9, exploration_final_eps=0.1,
            policy_kwargs=dict(features_extractor_class=Features, net_arch=[]), device="cpu"))
"""
SB3_DDPG = CLOCK + """
import stable_baselines3.td3.policies as policies, stable_baselines3.common.policies as common
from stable_baselines3 import DDPG
from stable_baselines3.common.noise import NormalActionNoise
def mlp(inputs, outputs, net_arch, activation_fn=nn.ReLU, squash_output=False, *_, **__):
    layers, size = [], inputs
    for units in net_arch:
        layers += [nn.Linear(size, units), nn.LayerNorm(units), nn.ReLU()]
        size = units
    layers += [nn.Linear(size, outputs)] if outputs > 0 else []
    return layers + ([nn.Tanh()] if squash_output else [])
policies.create_mlp = common.create_mlp = mlp  # the same networks, layer norm included
env = gym.make("Hopper-v5")
model = DDPG("MlpPolicy", env, learning_rate=1e-3, buffer_size=100000, learning_starts=1000, batch_size=128,
             train_freq=1, gradient_steps=1, tau=1e-3, policy_kwargs=dict(net_arch=[64, 64]), device="cpu",
             action_noise=NormalActionNoise(np.zeros(3), 0.1 * np.ones(3)))
assert sum(isinstance(layer, nn.LayerNorm) for layer in model.policy.modules()) == 8, model.policy
measure(model)
"""


def ours(script, *flags):
    """Steps/s of a whole CA2E run, from its progress lines, once it learns."""
    with tempfile.TemporaryDirectory() as folder:
        process = subprocess.Popen(
            [sys.executable, "-u", str(ROOT / script), "--learning-starts", "1000", "--eval-frequency", "100000000",
             "--buffer-size", "100000", "--total-timesteps", "1000000", "--prior-dir", str(ROOT / "priors"), *flags],
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


def theirs(code, threads):
    """Steps/s of a stable-baselines3 agent, in a process of its own, once it learns."""
    return float(subprocess.run([sys.executable, "-W", "ignore", "-c", code, str(threads), str(SECONDS), "1200"],
                                capture_output=True, text=True, check=True).stdout.split()[-1])


def sample_call(slots):
    """Milliseconds of one manager call that refreshes 32 priorities and samples a batch of 32 from slots: median."""
    args = dqn.Args(num_nature_actors=1, num_prior_actors=0, buffer_size=slots, local_buffer_size=10,
                    learning_starts=0, samples_per_insert=0)
    context = mp.get_context("forkserver")
    manager = managers.BaseManager(ctx=context)
    manager.register("PrioritizedReplay", dqn.PrioritizedReplay)
    manager.start()
    replay = manager.PrioritizedReplay(
        args, [], {"global_step": 0, "prior_steps": 0, "updates": 0, "evaluations": [], "roles": [0]})
    priorities = np.random.default_rng(0).random(slots)
    for first in range(0, slots - 100, 10_000):
        ids = np.arange(first, min(first + 10_000, slots - 100))
        replay.add(0, 0, int(ids[-1]) + 1, ids, priorities[ids], [])
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
    """GB that slots of the Atari replay take in memory: when created, half full, full."""
    def resident():
        lines = Path("/proc/self/smaps").read_text().split("memfd:ca2e")[1].splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith("Rss:")) * 1024 / 1e9

    store, found = dqn.SharedArray(slots, dqn.slot(dqn.make_atari("PongNoFrameskip-v4"))), []
    for first, last in ((0, 0), (0, slots // 2), (slots // 2, slots)):
        for slot in range(first, last, 1000):
            store.array[slot : slot + 1000] = np.ones(1, store.array.dtype)
        found.append(resident())
    return found


def update(agent, env, size):
    """Milliseconds of the bare update on a batch of size that is there, on one thread: median."""
    rng, times, frames, actions = np.random.default_rng(0), [], env.single_observation_space, env.single_action_space
    states = (rng.random((2, size, *frames.shape)) * (255 if frames.dtype == np.uint8 else 1)).astype(frames.dtype)
    column = np.ones(size, np.float32)
    batch = (states[0], np.zeros((size, *actions.shape), actions.dtype), column, column, states[1], column)
    batch = [torch.from_numpy(array) for array in batch]
    torch.set_num_threads(1)
    for _ in range(1000 if size > 32 else 100):
        start = time.perf_counter()
        agent.update(batch, 0)
        times.append(time.perf_counter() - start)
    return 1000 * float(np.median(times))


def main(kind):
    """Measures everything and writes the table."""
    rows, cores, cpu = [], os.cpu_count(), torch.device("cpu")
    script = {"dqn": "ca2e_dqn_atari", "ddpg": "ca2e_ddpg_mujoco"}[kind]

    def row(what, value, unit):
        rows.append([what, round(value, 3), unit])
        print(f"{what}: {value:.3f} {unit}", flush=True)

    if kind == "dqn":
        for slots in (10_000, 100_000, 1_000_000):
            row(f"manager call, a batch of 32 from {slots:,}", sample_call(slots), "ms")
        for name, value in zip(("created", "half full", "full"), memory(1_000_000)):
            row(f"replay of 1,000,000, {name}", value, "GB")
        env = dqn.make_atari("PongNoFrameskip-v4")
        for name, bf16 in (("float32", False), ("bfloat16", True)):
            row(f"bare update, one thread, {name}", update(dqn.DQN(dqn.Args(bf16=bf16), env, cpu, 0), env, 32), "ms")
        mine = {"CA2E-DQN": ["--exploration-steps", "1"], "CA2E-DQN --bf16": ["--exploration-steps", "1", "--bf16"]}
        other = {f"SB3 DQN, {threads} threads": (SB3_DQN, threads) for threads in sorted({1, cores})}
    else:
        env = ddpg.make_control("Hopper-v5")
        row("bare update, one thread", update(ddpg.DDPG(ddpg.Args(), env, cpu, 0), env, 128), "ms")
        mine = {"CA2E-DDPG": []}
        other = {f"SB3 DDPG, {threads} threads": (SB3_DDPG, threads) for threads in sorted({1, cores})}
    speeds = {name: [] for name in (*mine, *other)}
    for turn in range(ROUNDS):
        for name, found in speeds.items():
            found.append(ours(script + ".py", *mine[name]) if name in mine else theirs(*other[name]))
            row(f"{name}, round {turn + 1}", found[-1], "steps/s")
    best = [max(pair) for pair in zip(*(speeds[name] for name in other))]
    for name in mine:
        ratios = [a / b for a, b in zip(speeds[name], best)]
        row(f"{name} / the better SB3, median of rounds", float(np.median(ratios)), "times")
    with open(ROOT / "benchmark" / "results" / f"speed_{script.removeprefix('ca2e_')}.csv", "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["what", "value", "unit"])
        writer.writerow(["machine", f"{cores} cores, {platform.machine()}, torch {torch.__version__}", ""])
        writer.writerows(rows)


if __name__ == "__main__":
    main(*sys.argv[1:])
