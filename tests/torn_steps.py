"""CA2E-DDPG on a task whose every number tells who wrote it when; the learner checks what it samples.

    python tests/torn_steps.py --num-prior-actors 0 ...     # exits with 1 and a line at the first torn transition

An observation is 32 times the same number, episode * 1000 + t, episodes drawn at random and 100 steps long; the reward is
(observation mod 1000); a state is a stack of three observations, as Atari's is of four. So a transition is whole if its
observations are each of one number and follow one another (zeros before the episode's first), next_state is three steps
further (fewer at an episode's end), and its return is that of the steps between. Two names in the process environment
cause faults: RAISE lets every actor raise; KILL lets actor 0 die in the middle of calls to the manager, actor 1 in the
middle of copying the weights, actor 2 in the middle of writing a record, actor 3 in the middle of writing returns.
"""

import multiprocessing as mp
import multiprocessing.connection
import os
import random
import signal
import sys
from pathlib import Path

import gymnasium as gym
import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).parents[1]))
import ca2e_ddpg_mujoco as ca2e  # noqa: E402

LENGTH = 100
ca2e.STACK = 3


class Counter(gym.Env):
    """Counts; observations (32,), actions (1,)."""

    observation_space = gym.spaces.Box(0, np.inf, (32,), np.float32)
    action_space = gym.spaces.Box(-1.0, 1.0, (1,), np.float32)

    def __init__(self, render_mode=None):
        self.number = 0

    def _observation(self):
        return np.full(32, self.number, np.float32)

    def reset(self, seed=None, options=None):
        super().reset(seed=seed)
        self.number = 1000 * int(self.np_random.integers(10_000))
        return self._observation(), {}

    def step(self, action):
        self.number += 1
        if "RAISE" in os.environ and self.number % 1000 == LENGTH - 1:
            raise ValueError("a fault of the environment")
        return self._observation(), float(self.number % 1000), False, self.number % 1000 == LENGTH, {}


gym.register("Counter-v0", Counter, max_episode_steps=10 * LENGTH)


def die(name, chance):
    """Kills the process that is called so, now and then."""
    if mp.current_process().name == name and random.random() < chance:
        os.kill(os.getpid(), signal.SIGKILL)


class HalfWritten:
    """The replay's shared memory, or a record of it; whoever writes to it may die when some fields are written."""

    def __init__(self, array):
        self.array = array

    def __getitem__(self, key):
        die("actor 3", 0.2 * (key == "discount"))
        return HalfWritten(self.array[key]) if isinstance(key, int) else self.array[key]

    def __setitem__(self, name, value):
        die("actor 2", 0.004 * (name in ("frame", "action")))
        self.array[name] = value


def die_half_way():
    """Wraps what an actor does at the four points."""
    receive, fill, create = mp.connection.Connection.recv, torch.nn.utils.vector_to_parameters, ca2e.LocalBuffer.__init__

    def dying_receive(connection):
        die("actor 0", 0.05)  # the question is on its way, or answered already
        return receive(connection)

    def dying_fill(vector, parameters):
        first, *others = parameters
        fill(vector[: first.numel()], [first])
        die("actor 1", 0.2)
        fill(vector[first.numel() :], others)

    mp.connection.Connection.recv, torch.nn.utils.vector_to_parameters = dying_receive, dying_fill
    ca2e.LocalBuffer.__init__ = lambda buffer, args, store, *others: create(buffer, args, HalfWritten(store), *others)


if "KILL" in os.environ and __name__ == "__mp_main__":  # in a child
    die_half_way()


def stack(newest):
    """(B,) numbers -> (B, 3, 1): what a state of that newest observation holds."""
    numbers = newest[:, None] - np.arange(ca2e.STACK - 1, -1, -1)
    return (numbers * (numbers // 1000 == newest[:, None] // 1000))[..., None]


def check(states, actions, returns, discounts, next_states, weights):
    """Stops the run at a transition that has a weight and is not whole; returns how many it looked at."""
    whole = weights > 0
    states, next_states = states[whole].astype(np.int64), next_states[whole].astype(np.int64)
    now, later = states[:, -1, 0], next_states[:, -1, 0]
    t, steps = now % 1000, later - now
    gamma = np.float32(0.99)
    want = sum((i < steps) * gamma**i * (t + i + 1) for i in range(3))
    fine = ((states == stack(now)) & (next_states == stack(later))).all((1, 2)) & (steps == np.minimum(3, LENGTH - t))
    fine &= np.isclose(returns[whole], want, rtol=1e-4) & np.isclose(discounts[whole], gamma**steps)
    if not fine.all():
        sys.exit(f"error: torn: {states[~fine][0]} {next_states[~fine][0]} {returns[whole][~fine][0]} {want[~fine][0]}")
    return len(fine)


class Checked(ca2e.DDPG):
    """The agent, which looks at every batch before it learns from it."""

    checked = 0

    def update(self, batch, global_step):
        Checked.checked += check(*(tensor.numpy() for tensor in batch))
        return super().update(batch, global_step)


if __name__ == "__main__":
    ca2e.DDPG = Checked
    ca2e.KILLS_A_MINUTE = 1_000_000
    try:
        ca2e.main(ca2e.parse())
    finally:
        print("checked", Checked.checked, "transitions")
