# /// script
# requires-python = ">=3.11"
# dependencies = [
#   "torch==2.13.0",
#   "gymnasium[atari,mujoco]==1.4.0",
#   "ale-py==0.12.1",
#   "numpy==2.4.6",
#   "tyro==1.0.17",
#   "tensorboard==2.21.0",
#   "pytest==9.2.0",
# ]
# ///
"""CA2E-DQN on Atari: "Compound Asynchronous Exploration and Exploitation" (Bai et al.), in one file.

    5 nature actors (explore) ---+  first priorities  +-------------------+   ids, weights   +---------+
    3 prior actors (exploit) ----+------------------> | PrioritizedReplay | ---------------> | learner |
       ^   each plays a game     |                    |  (in a manager's  | <--------------- | CUDA or |
       |                         |  frames, actions,  |      process)     |  new priorities  |   CPU   |
       |                         |  returns           +-------------------+                  +---------+
       |                         +------------------------> shared memory --- batches -------> |    |
       +----------------------------- newest weights, through shared memory -----------------------+

    python ca2e_dqn_atari.py --env-id PongNoFrameskip-v4      # the paper's settings: 10M steps
    python ca2e_dqn_atari.py --env-id PongNoFrameskip-v4 --total-timesteps 300000 --buffer-size 300000 \
        --exploration-steps 50000 --end-e 0.02 --target-network-frequency 1000 --bf16   # a laptop: 50 minutes
    python ca2e_dqn_atari.py --env-id PongNoFrameskip-v4 --evaluate runs/<name>/agent.pt --capture-video

Read `main` first (the paper's Fig. 1), then `actor` (Alg. 1), `LocalBuffer` and `PrioritizedReplay` (Alg. 2),
`learner` (Alg. 3). "Deviation 4" and the like point into the README's table of what the paper leaves open.
"""

import contextlib
import multiprocessing as mp
import os
import shutil
import signal
import sys
import tempfile
import threading
import time
import traceback
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from multiprocessing import connection, heap, managers, resource_tracker, util
from pathlib import Path

import ale_py
import gymnasium as gym
import imageio
import numpy as np
import torch
import torch.nn as nn
import tyro
from ale_py.vector_env import AtariVectorEnv
from torch.utils.tensorboard import SummaryWriter

ALGO = "ca2e-dqn"
CHECKPOINT_FORMAT = 1
STACK = 4  # frames in a state [paper, App. A]
AVERAGING = 8e-4  # an update moves the averaged weights so far towards the newest
MAX_SHARES = 4  # of a batch, for as many cores
BATCHES_PER_CALL = 32  # few, fat calls: the learner asks the manager for the next 32 batches at once
SAVE_SECONDS, LOG_SECONDS = 180, 10  # between checkpoints, between progress lines
DEATHS_A_MINUTE = 3  # of one child, which end the run
HANGS_SECONDS = 10  # an actor that has not asked for so long holds up nobody
FILM_EVERY = 2  # screens; a GIF shows 15 a second
STOP_SIGNALS = {signal.SIGINT, signal.SIGTERM}
PRELOAD = ["torch", "torch.utils.tensorboard", "tyro", "imageio", "gymnasium", "ale_py.vector_env"]


# ------------------------------------------------------------------------------------------------------- Args
@dataclass
class Args:
    # Run
    seed: int = 1
    """seed of the run; every actor derives its own from it"""
    torch_deterministic: bool = True
    """deterministic CUDA kernels (with --sync, two runs then give the same numbers)"""
    cuda: bool = True
    """learn on the GPU where there is one"""
    bf16: bool = False
    """learn in bfloat16 (about 1.5 times as fast on a CPU with AVX512-BF16, else left out) [ours]"""
    capture_video: bool = False
    """write a GIF of a greedy game when the run, or --evaluate, ends"""
    resume: str = ""
    """a run folder, runs/<name>, to go on with; its settings hold, but for flags given anew"""
    evaluate: str = ""
    """play 20 greedy games with this agent.pt (or prior) and exit"""
    sync: bool = False
    """everything in one process, in turn: slow, deterministic, and a debugger works"""

    # Environment
    env_id: str = "PongNoFrameskip-v4"
    """the game, as gymnasium registers it [paper, App. B]"""
    total_timesteps: int = 10_000_000
    """agent steps (4 frames each) of all actors together [paper, Fig. 2]"""

    # DQN
    learning_rate: float = 1e-4
    """of Adam [paper, App. A]"""
    buffer_size: int = 1_000_000
    """transitions in the replay [paper, App. A]"""
    gamma: float = 0.99
    """discount factor [DQN; the paper is silent]"""
    n_step: int = 3
    """steps of the multi-step return [Rainbow; the paper is silent]"""
    target_network_frequency: int = 10_000
    """inserted transitions between copies to the target network [paper, App. A]"""
    batch_size: int = 32
    """transitions in an update [paper, App. A]"""
    learning_starts: int = 10_000
    """inserted transitions before the first update [ours: the paper is silent]"""
    start_e: float = 1.0
    """initial epsilon of the first nature actor [ours: the paper says "different values"]"""
    min_start_e: float = 0.2
    """initial epsilon of the last nature actor; the others lie evenly between [ours: the paper is silent]"""
    end_e: float = 0.1
    """epsilon of every nature actor from exploration_steps on [paper, App. A]"""
    exploration_steps: int = 1_000_000
    """agent steps, of all actors, over which epsilon falls [paper, App. A]"""

    # CA2E
    num_nature_actors: int = 5
    """actors that explore, epsilon-greedy on the learner's weights [paper, 5.1]"""
    num_prior_actors: int = 3
    """actors that exploit trained baseline agents [paper, 5.1]"""
    prior_dir: str = "priors"
    """the baseline agents are <prior_dir>/<env_id>/*.pt, shared in turn by the prior actors"""
    prior_epsilon: float = 0.01
    """epsilon of the prior actors [ours: Deviation 5]"""
    retire_ratio: float = 1.05
    """a prior retires once the learner exceeds it by this factor, the paper's alpha [ours: Deviation 1]"""
    retire_patience: int = 3
    """evaluations in a row that must say so, the paper's "several times" [ours: Deviation 2]"""
    local_buffer_size: int = 50
    """steps of an actor between deliveries to the replay, the paper's B [Ape-X]"""
    per_alpha: float = 0.6
    """how far priorities skew the sampling, 0 is uniform [Ape-X]"""
    per_beta: float = 0.4
    """how far importance weights correct it, 1 is fully [Ape-X]"""
    samples_per_insert: float = 8.0
    """transitions sampled per transition inserted (DQN: 32 every 4); 0 runs free, as the paper [ours]"""
    publish_frequency: int = 25
    """updates between publications of the weights [ours: the paper is silent]"""
    eval_frequency: int = 25_000
    """agent steps between greedy evaluations [ours: Deviation 3]"""
    eval_episodes: int = 5
    """games of an evaluation [ours: Deviation 3]"""

    @property
    def num_actors(self) -> int:
        """Nature and prior actors together."""
        return self.num_nature_actors + self.num_prior_actors

    @property
    def part(self) -> int:
        """Slots that each actor owns in the replay."""
        return min(self.buffer_size, self.total_timesteps) // self.num_actors


# ------------------------------------------------------------------------------------------------ Environment
def atari_game(env_id: str) -> tuple[str, float]:
    """ROM name and probability of a sticky action behind a registered Atari id; exits on any other id."""
    gym.register_envs(ale_py)
    spec = gym.registry.get(env_id)
    plain = env_id.split("-")[0].removesuffix("Deterministic") + "NoFrameskip-v4"
    if "NoFrameskip" not in env_id and plain in gym.registry:  # Pong-v4, PongDeterministic-v4
        sys.exit(f"error: {env_id} skips frames of its own; use {plain}")
    if spec is None or spec.entry_point != "ale_py.env:AtariEnv":
        sys.exit(f"error: {env_id} is not an Atari game; ids look like PongNoFrameskip-v4 or ALE/Pong-v5")
    return spec.kwargs["game"], spec.kwargs["repeat_action_probability"]


def make_atari(env_id: str, num_envs: int = 1, gray: bool = True) -> AtariVectorEnv:
    """Atari as App. A has it: states (num_envs, 4, 84, 84), frame skip 4, up to 30 no-ops (the defaults).

    `terminated` is true at every lost life (Deviation 18): the game is over when no lives are left, and may
    wait for FIRE before. The step after a game's end ignores its action and returns the next game's start.
    """
    game, sticky = atari_game(env_id)
    size = {} if gray else {"img_height": 210, "img_width": 160, "stack_num": 1}
    return AtariVectorEnv(game, num_envs, num_threads=1, repeat_action_probability=sticky,
                          reward_clipping=False, life_loss_info=True, grayscale=gray, **size)


def fire_button(env: AtariVectorEnv) -> int | None:
    """The action that presses FIRE, in games that have one."""
    buttons = list(env.ale.get_action_set())
    return buttons.index(ale_py.Action.FIRE) if ale_py.Action.FIRE in buttons else None


# --------------------------------------------------------------------------------------------------- Networks
class QNetwork(nn.Module):
    """q(s, .) of App. A: 3 convolutions, 512 hidden units with layer norm, one linear output per action."""

    def __init__(self, env):
        super().__init__()
        self.network = nn.Sequential(
            nn.Conv2d(4, 32, 8, stride=4), nn.ReLU(),
            nn.Conv2d(32, 64, 4, stride=2), nn.ReLU(),
            nn.Conv2d(64, 64, 3, stride=1), nn.ReLU(),
            nn.Flatten(),
            nn.Linear(3136, 512), nn.LayerNorm(512), nn.ReLU(),
            nn.Linear(512, int(env.single_action_space.n)),
        )  # fmt: skip

    def forward(self, states: torch.Tensor) -> torch.Tensor:
        """states (B, 4, 84, 84) uint8 -> q-values (B, num_actions)."""
        return self.network(states.contiguous(memory_format=torch.channels_last) / 255.0)  # fastest on a CPU


def play_atari(env_id: str, q_network: QNetwork, games: int, seed: int, film: list | None = None):
    """Unclipped returns (games,) of full games played side by side, greedy but for an epsilon of 0.001.

    film collects the first game's screens: a second environment in colour, same seed and actions, keeps step.
    """
    env, rng = make_atari(env_id, games), np.random.default_rng(seed)
    num_actions, fire = env.single_action_space.n, fire_button(env)
    states, _ = env.reset(seed=seed)
    returns, playing, life_lost = np.zeros(games), np.ones(games, bool), np.zeros(games, bool)
    if film is not None:
        colour = make_atari(env_id, gray=False)
        film.append(colour.reset(seed=seed)[0][0, -1])
    while playing.any():
        actions = rng.integers(num_actions, size=games)
        greedy = playing & (rng.random(games) >= 0.001)
        with torch.inference_mode():
            actions[greedy] = q_network(torch.from_numpy(states[greedy])).argmax(1).numpy()
        if fire is not None:
            actions[life_lost] = fire
        if film is not None and playing[0]:
            film.append(colour.step(actions[:1])[0][0, -1])
        states, rewards, terminations, truncations, info = env.step(actions)
        returns += rewards * playing
        life_lost = terminations & (info["lives"] > 0)
        playing &= ~((terminations & ~life_lost) | truncations)
    return returns


# ------------------------------------------------------------------------------------------------------- Loss
def double_q_loss(q_network, target_network, batch) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """The loss of section 5.1 with importance weights, a scalar; the TD errors (B,); q(s_t, a_t) (B,).

    batch: states and next_states (B, 4, 84, 84) as their places say; the others (B,).
    """
    states, actions, returns, discounts, next_states, weights = batch
    with torch.no_grad():
        best_actions = q_network(next_states).argmax(1, keepdim=True)  # argmax_a q(s_{t+n}, a; theta)  (B, 1)
        next_q = target_network(next_states).gather(1, best_actions).squeeze(1)  # q(s_{t+n}, ., theta-)  (B,)
        td_target = returns + discounts * next_q  # sum_i gamma^i R_{t+i} + gamma^n q(...)  (B,)
    q_values = q_network(states).gather(1, actions[:, None]).squeeze(1).float()  # q(s_t, a_t; theta)  (B,)
    td_errors = td_target - q_values
    return (weights * 0.5 * td_errors.square()).mean(), td_errors.detach(), q_values.detach()


def first_priorities(q_network, states, actions, returns, discounts, after) -> np.ndarray:
    """Deviation 4: abs(G_t + gamma^k max_a q(s_{t+k}, a) - q(s_t, a_t)) of L consecutive steps, as Ape-X.

    states (L, 4, 84, 84); actions, returns, discounts (L,); after (L,): where in states s_{t+k} is -> (L,).
    """
    with torch.inference_mode():
        q_values = q_network(torch.from_numpy(states)).numpy()  # (L, num_actions)
    return np.abs(returns + discounts * q_values.max(1)[after] - q_values[np.arange(len(actions)), actions])


# ---------------------------------------------------------------------------------- Shared memory and weights
def slot(env) -> list:
    """What the replay holds of one step, as numpy fields; of a state only the newest frame."""
    frames, actions = env.single_observation_space, env.single_action_space
    return [("id", np.int64), ("action", actions.dtype, actions.shape), ("return", np.float32),
            ("discount", np.float32), ("steps", np.uint8), ("age", np.uint8),
            ("frame", frames.dtype, frames.shape[1:])]


def nameless_memory(size: int) -> heap.Arena:
    """Memory that children inherit, committed as it is touched, and that no crash can leave behind."""
    if not hasattr(os, "memfd_create"):  # macOS
        return heap.Arena(size)
    fd = os.memfd_create("ca2e")
    os.ftruncate(fd, size)
    return heap.Arena(size, fd)


class SharedArray:
    """`array`, of length records, in shared memory: a child process that is handed this sees the same."""

    def __init__(self, length: int, dtype: list):
        dtype = np.dtype(dtype, align=True)
        self.__setstate__((nameless_memory(length * dtype.itemsize), length, dtype))

    def __getstate__(self):
        return self.arena, self.array.shape[0], self.array.dtype

    def __setstate__(self, state):
        self.arena, length, dtype = state
        self.array = np.frombuffer(self.arena.buffer, dtype, length)


def publish(weights: SharedArray, *networks: nn.Module) -> None:
    """Learner: replaces the published parameters, each network in a row; a version is odd meanwhile."""
    for row, network in enumerate(networks):
        vector = torch.cat([parameter.detach().flatten() for parameter in network.parameters()]).cpu().numpy()
        weights.array["version"][row] += 1
        weights.array["vector"][row] = vector
        weights.array["version"][row] += 1


def newest_weights(weights: SharedArray, network: nn.Module, seen: int, row: int = 0) -> int:
    """Actor: copies what was published since version `seen` into network; returns the version it then has."""
    while (version := int(weights.array["version"][row])) != seen:
        vector = torch.from_numpy(weights.array["vector"][row].copy())
        if version % 2 == 0 and weights.array["version"][row] == version:  # nobody wrote during the copy
            nn.utils.vector_to_parameters(vector, network.parameters())
            return version
        time.sleep(0.001)
    return seen


# ------------------------------------------------------------------------------- N-step local buffer (Alg. 2)
def n_step_transitions(rewards, terminations, last, n: int, gamma: float):
    """N-step returns of L consecutive steps of one actor: (returns, discounts, steps, complete), each (L,).

    terminations[t]: a life or the game was lost on the way to s_{t+1}; last[t]: s_t is a game's last state,
    no transition. A window of n steps is cut at both; it is complete where s_{t+k} is among the L.

        rewards 1 2 3 4, n = 3, gamma = 0.9:  G_0 = 1 + 0.9 * 2 + 0.81 * 3,  discount 0.9^3, k = 3
        the same, terminations[1] is true:    G_0 = 1 + 0.9 * 2,             discount 0,     k = 2
        the same, last[2] is true:            G_0 = 1 + 0.9 * 2,             discount 0.9^2, k = 2 (truncated)
    """
    length = len(rewards)
    returns, discounts = np.zeros(length, np.float32), np.zeros(length, np.float32)
    steps, open_ = np.zeros(length, np.int64), ~last
    for i in range(n):
        t = np.flatnonzero(open_[: length - 1 - i])  # open windows whose s_{t+i+1} is among the L
        returns[t] += gamma**i * rewards[t + i]  # G_t = sum_i gamma^i R_{t+i+1}
        discounts[t] = gamma ** (i + 1) * ~terminations[t + i]
        steps[t] = i + 1
        open_[t] = ~terminations[t + i] & ~last[t + i + 1]
    return returns, discounts, steps, ~last & (~open_ | (steps == n))


class LocalBuffer:
    """An actor's own buffer of Alg. 2: collects B steps, then delivers them, with priorities, to the replay.

    A slot of the replay holds one frame, action, return: s_t is rebuilt from frames t-3..t, s_{t+k} from
    those that end at t+k. A game's last observation takes a slot of its own, which is never sampled.
    """

    def __init__(self, args: Args, store: SharedArray, actor: int, life: int, head: int):
        self.args, self.store, self.actor, self.life, self.head = args, store.array, actor, life, head
        self.pending = []  # steps whose transitions have not been delivered
        self.episodes = []  # (return, length) of those that ended since the last delivery

    def append(self, *step) -> None:
        """s_t, a_t, R_{t+1}, was a life or the game lost?, is s_t a game's last?, steps into the game."""
        self.pending.append(step)

    def deliver(self, replay, networks) -> tuple[int | None, int]:
        """Alg. 2, "calculate priorities ... add prioritized experience"; returns the replay's answer."""
        states, actions, rewards, terminations, last, ages = map(np.array, zip(*self.pending))
        returns, discounts, steps, complete = n_step_transitions(
            rewards, terminations, last, self.args.n_step, self.args.gamma)
        after = np.arange(len(steps)) + steps  # where s_{t+k} is
        priorities = first_priorities(networks, states, actions, returns, discounts, after)

        self.head += self.args.local_buffer_size
        counts = np.arange(self.head - len(steps), self.head)  # of this actor's steps, since it first started
        slots = self.actor * self.args.part + counts % self.args.part
        ids = counts // self.args.part * (self.args.num_actors * self.args.part) + slots
        self.store["id"][slots] = ids  # first, so that a reader sees that the rest is about to change
        for name, values in (("frame", states[:, -1]), ("action", actions), ("return", returns),
                             ("discount", discounts), ("steps", steps), ("age", ages)):
            self.store[name][slots] = values
        answer = replay.add(
            self.actor, self.life, self.head, ids[complete], priorities[complete], self.episodes)

        waiting = int(np.flatnonzero(complete | last).max(initial=-1)) + 1  # s_{t+k} is not there yet
        self.pending, self.episodes = self.pending[waiting:], []
        return answer


# -------------------------------------------------------------------------- Prioritized replay (Alg. 2 and 3)
class SumTree:
    """A binary tree over priorities whose inner nodes hold the sum of their children; methods take arrays."""

    def __init__(self, capacity: int):
        self.leaves = 1 << max(1, (capacity - 1).bit_length())  # slot i is node leaves + i, the root node 1
        self.nodes = np.zeros(2 * self.leaves)

    def set(self, slots: np.ndarray, priorities: np.ndarray | float) -> None:
        """Replaces the priorities of slots; where a slot comes twice, the last one counts."""
        nodes = slots + self.leaves
        self.nodes[nodes] = priorities
        while nodes.size and nodes[0] > 1:
            nodes = nodes >> 1
            self.nodes[nodes] = self.nodes[2 * nodes] + self.nodes[2 * nodes + 1]

    def find(self, values: np.ndarray) -> np.ndarray:
        """The slots at which the running sum of priorities first exceeds values, each within [0, total)."""
        nodes, values = np.ones(len(values), np.int64), values.copy()
        while nodes.size and nodes[0] < self.leaves:
            nodes = 2 * nodes
            left = self.nodes[nodes]
            right = (values >= left) & (self.nodes[nodes + 1] > 0)  # never into an empty branch by rounding
            values -= left * right
            nodes += right
        return nodes - self.leaves


def importance_weights(priorities: np.ndarray, beta: float) -> np.ndarray:
    """(n, B) priorities -> (n, B) weights (N P(i))^-beta, each batch's largest scaled to 1 [PER, 3.4]."""
    return (priorities / priorities.min(axis=-1, keepdims=True)) ** -beta  # N and the sum in P(i) cancel


def samples_owed(inserted: int, sampled: int, args: Args) -> float:
    """Transitions to sample until the learner is even with the actors; below 0 before learning_starts."""
    return args.samples_per_insert * (inserted - args.learning_starts) - sampled


def may_insert(inserted: int, sampled: int, args: Args) -> bool:
    """The rate limit on actors: samples for a block, and what the learner takes at once, may be owed."""
    slack = args.samples_per_insert * args.local_buffer_size + BATCHES_PER_CALL * args.batch_size
    return args.samples_per_insert == 0 or samples_owed(inserted, sampled, args) <= slack


def may_sample(inserted: int, sampled: int, args: Args) -> int:
    """The rate limit on the learner: how many batches it may take now."""
    if inserted < max(1, args.learning_starts):
        return 0
    if args.samples_per_insert == 0:
        return BATCHES_PER_CALL
    return min(BATCHES_PER_CALL, int(max(0, samples_owed(inserted, sampled, args)) // args.batch_size))


def retires(evaluations: list, average_return: float, retire_ratio: float, retire_patience: int) -> bool:
    """Alg. 1.1, "if several times r >= alpha rbar" (Deviations 1, 2): the newest evaluations r all say so."""
    threshold = average_return + (retire_ratio - 1) * abs(average_return)
    newest = evaluations[-retire_patience:]
    return len(newest) == retire_patience and all(r >= threshold for r in newest)


class PrioritizedReplay:
    """The index of the replay, served by a manager process: which slot holds what, how likely it is sampled.

    Frames, actions and returns never come here: they lie in shared memory. Actor a's c-th step has the slot
    a * part + c % part and the id (c // part) * capacity + slot, never used twice. No call waits.
    """

    def __init__(self, args: Args, averages: list[float], state: dict):
        self.args, self.averages, self.state = args, averages, state  # state: see `main`
        self.lock = threading.Lock()  # the manager serves each client in a thread of its own
        self.capacity = args.num_actors * args.part
        self.tree, self.ids = SumTree(self.capacity), np.full(self.capacity, -1)
        self.by_prior = np.zeros(self.capacity, bool)  # who made a transition, to log their share
        self.rng = np.random.default_rng([args.seed, state["global_step"]])
        self.heads, self.events = [0] * args.num_actors, []
        self.waiting = {}  # actors that the rate limit holds, in their order: when they last asked
        self.lives = [0] * args.num_actors  # how often an actor was started
        self.inserted = self.sampled = 0

    def join(self, actor: int) -> tuple[int, int, int | None, int]:
        """An actor starts, or starts again: (its life, count of its first step, its role, global step)."""
        with self.lock:
            self.waiting.pop(actor, None)
            self.lives[actor] += 1
            return self.lives[actor], self.heads[actor], self.state["roles"][actor], self.state["global_step"]

    def my_turn(self, actor: int) -> bool:
        """The rate limit. Actors that it holds take turns, so that the mix of data stays the actors'."""
        with self.lock:
            now = self.waiting[actor] = time.monotonic()  # it keeps its place
            first = next(other for other, asked in self.waiting.items() if now - asked < HANGS_SECONDS)
            go = first == actor and self.state["global_step"] < self.args.total_timesteps
            go = go and may_insert(self.inserted, self.sampled, self.args)
            if go:
                del self.waiting[actor]
            return go

    def add(self, actor: int, life: int, head: int, ids, priorities, episodes) -> tuple[int | None, int]:
        """Alg. 2: one block of an actor, up to its step `head`; returns (its role, global step)."""
        with self.lock:
            if life != self.lives[actor]:  # it is dead, and another has begun to write where it wrote
                return None, self.state["global_step"]
            self._set(ids, priorities)
            # Alg. 3, "periodically remove old experience": what the next block overwrites
            ahead = np.arange(head, head + self.args.local_buffer_size + STACK - 1)
            slots = actor * self.args.part + ahead % self.args.part
            self.tree.set(slots, 0.0)
            self.ids[slots], self.by_prior[slots] = -1, False
            self.heads[actor] = head
            self.inserted += len(ids)
            role = self.state["roles"][actor]
            self.by_prior[ids % self.capacity] = role is None
            self.state["global_step"] += len(ids)
            self.state["prior_steps"] += len(ids) if role is None else 0
            kind = "prior_" if role is None else ""
            self.events += [("episode", kind, *episode) for episode in episodes]
            return role, self.state["global_step"]

    def sample(self, ids, priorities) -> tuple[np.ndarray, np.ndarray, dict, list]:
        """Alg. 3: takes the new priorities of ids (m,); returns the next batches, the state and the events.

        A batch is ids and importance weights: (n, B) each; n is 0 while the rate limit holds the learner.
        """
        with self.lock:
            live = self.ids[ids % self.capacity] == ids  # a late priority for an overwritten slot is dropped
            self._set(ids[live], priorities[live])
            n, size = may_sample(self.inserted, self.sampled, self.args), self.args.batch_size
            strata = (np.arange(size) + self.rng.random((n, size))) / size  # a draw from each [PER, 3.3]
            slots = self.tree.find((strata * self.tree.nodes[1]).ravel()).reshape(n, size)
            weights = importance_weights(self.tree.nodes[self.tree.leaves + slots], self.args.per_beta)
            self.sampled += n * size
            self.state["updates"] += n
            if n:
                held = min(self.inserted, self.capacity)
                self.state["prior_replay_share"] = float(self.by_prior.sum() / held)
                self.state["prior_batch_share"] = float(self.by_prior[slots].mean())
            events, self.events = self.events, []
            return self.ids[slots], weights.astype(np.float32), {**self.state}, events

    def _set(self, ids, priorities) -> None:
        slots = ids % self.capacity
        self.ids[slots] = ids
        self.tree.set(slots, (priorities + 1e-6) ** self.args.per_alpha)

    def step(self) -> int:
        """Global step: transitions inserted by all actors."""
        with self.lock:
            return self.state["global_step"]

    def evaluated(self, global_step: int, returns: np.ndarray) -> None:
        """The evaluator's report: returns with the weights published by global_step; retires priors."""
        with self.lock:
            roles, evaluations = self.state["roles"], self.state["evaluations"]
            evaluations.append(float(returns.mean()))
            self.events.append(("evaluation", global_step, returns))
            for actor, average in enumerate(self.averages, start=self.args.num_nature_actors):
                retired = retires(evaluations, average, self.args.retire_ratio, self.args.retire_patience)
                if roles[actor] is None and retired:
                    roles[actor] = sum(role is not None for role in roles)  # the ladder's next place

    def failed(self, name: str, text: str) -> None:
        """A child's traceback, for the learner to print."""
        with self.lock:
            self.events.append(("failure", name, text))


managers.BaseManager.register("PrioritizedReplay", PrioritizedReplay)


def gather(store: np.ndarray, ids: np.ndarray, weights: np.ndarray, args: Args) -> tuple[np.ndarray, ...]:
    """n batches, of ids (n, B): states, actions, returns, discounts, next_states, weights; (n, B, ...).

    A transition that its actor began to overwrite since it was sampled gets the weight 0.
    """
    part, capacity = args.part, args.num_actors * args.part
    slots, lap = ids % capacity, ids // capacity
    first, position = slots - slots % part, slots % part  # of the actor's part, within it

    def stacks(position):  # frames t-3..t, zeros before the game's first  (n, B, STACK, ...)
        back = np.arange(STACK - 1, -1, -1)
        frames = store["frame"][first[..., None] + (position[..., None] - back) % part]
        frames[back > store["age"][first + position % part][..., None]] = 0
        return frames

    batches = (stacks(position), store["action"][slots], store["return"][slots], store["discount"][slots],
               stacks(position + store["steps"][slots]))
    count = lap * part + position - np.minimum(store["age"][slots], STACK - 1)  # of the oldest frame
    whole = store["id"][first + count % part] == count // part * capacity + first + count % part
    return *batches, np.where(whole, weights, np.float32(0))


# -------------------------------------------------------------------------------------------- Actors (Alg. 1)
def epsilon_ladder(place: int, global_step: int, args: Args) -> float:
    """Epsilon of a nature actor: the ladder goes from start_e to min_start_e; each anneals to end_e."""
    rungs = np.linspace(args.start_e, args.min_start_e, max(1, args.num_nature_actors))
    start = rungs[place % len(rungs)]
    return float(start + min(1.0, global_step / args.exploration_steps) * (args.end_e - start))


def actor(args: Args, index: int, prior: str | None, replay, store: SharedArray, weights: SharedArray):
    """Alg. 1.1 (while its role is None) and 1.2: plays for ever; yields after each block that it delivers."""
    life, head, role, global_step = replay.join(index)
    env, rng = make_atari(args.env_id), np.random.default_rng([args.seed, index, head, global_step])
    num_actions, fire = env.single_action_space.n, fire_button(env)
    q_network, prior_network = QNetwork(env), QNetwork(env)
    if prior is not None:
        prior_network.load_state_dict(load_checkpoint(prior, args.env_id, prior_network)["network"])
    buffer, version = LocalBuffer(args, store, index, life, head), newest_weights(weights, q_network, -1)
    states, _ = env.reset(seed=int(rng.integers(2**31)))
    life_lost = last = False
    age = length = episodic_return = 0
    while True:
        network = prior_network if role is None else q_network
        epsilon = args.prior_epsilon if role is None else epsilon_ladder(role, global_step, args)
        for _ in range(args.local_buffer_size):
            if fire is not None and life_lost:
                action = fire
            elif rng.random() < epsilon:
                action = int(rng.integers(num_actions))
            else:
                with torch.inference_mode():
                    action = int(network(torch.from_numpy(states)).argmax())  # a_t = pi(s_t)
            next_states, rewards, terminations, truncations, info = env.step(np.array([action]))
            termination, out_of_lives = bool(terminations[0]), info["lives"][0] == 0
            buffer.append(states[0], action, np.clip(rewards[0], -1, 1), termination, last, min(age, STACK))
            age = 0 if last else age + 1  # after a game's last state comes the next game's first
            length, episodic_return = length + (not last), episodic_return + float(rewards[0])
            life_lost = termination and not out_of_lives
            last = not last and bool(termination and out_of_lives or truncations[0])
            if last:
                buffer.episodes.append((episodic_return, length))
                length = episodic_return = 0
            states = next_states
        version = newest_weights(weights, q_network, version)  # Alg. 1.2, "receive ... parameters"
        role, global_step = buffer.deliver(replay, q_network)  # Alg. 1.1, "replace with a new nature actor"
        yield


def evaluator(args: Args, replay, weights: SharedArray):
    """Deviation 3: full greedy games with the averaged weights; yields after each look at the step."""
    network, version, due = QNetwork(make_atari(args.env_id)), -1, float("inf")
    while True:
        if (step := replay.step()) >= due:
            version = newest_weights(weights, network, version, row=1)
            replay.evaluated(step, play_atari(args.env_id, network, args.eval_episodes, args.seed + step))
        if step >= due or due == float("inf"):  # a round that comes late is skipped
            due = (replay.step() // args.eval_frequency + 1) * args.eval_frequency
        yield


# ------------------------------------------------------------------------------------------------ Checkpoints
def save_checkpoint(path: Path, checkpoint: dict) -> None:
    """Writes under a temporary name, then renames: whoever looks finds the old file or the new one, whole."""
    temporary = path.with_suffix(".tmp")
    try:
        with open(temporary, "wb") as file:
            torch.save(checkpoint, file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except (OSError, RuntimeError) as error:
        temporary.unlink(missing_ok=True)
        sys.exit(f"error: cannot save {path} ({error}); what was saved before is intact")


def load_checkpoint(path: str | Path, env_id: str, network: nn.Module) -> dict:
    """Reads a prior or a saved agent for env_id that fits network; exits with one line on any other file."""
    shapes = {name: tensor.shape for name, tensor in network.state_dict().items()}
    try:
        found = torch.load(path, map_location="cpu", weights_only=True)  # code in a pickle never runs
        if found["format"] != CHECKPOINT_FORMAT:
            problem = f"has the format {found['format']}, not {CHECKPOINT_FORMAT}"
        elif found["env_id"] != env_id:
            problem = f"is for {found['env_id']}, not for {env_id}"
        elif {name: tensor.shape for name, tensor in found["network"].items()} != shapes:
            problem = f"holds a network of another shape than {env_id} needs"
        elif not all(tensor.isfinite().all() for tensor in found["network"].values()):
            problem = "holds weights that are not finite"
        else:
            return {**found, "average_return": float(found["average_return"])}
    except FileNotFoundError:
        problem = "does not exist"
    except Exception as error:  # a truncated, foreign or malicious file raises one of a dozen kinds
        problem = f"is no checkpoint ({type(error).__name__})"
    sys.exit(f"error: {path} {problem}; use another, or make one with pretrain_priors.py")


def load_agent(path: Path, agent, checkpoint: dict) -> None:
    """Fills networks and optimizer from a saved agent; exits with one line where they do not fit."""
    try:
        groups = agent.optimizer.state_dict()["param_groups"]  # the learning rate may have been given anew
        for name, part in agent.parts.items():
            part.load_state_dict({**checkpoint[name], "param_groups": groups} if name == "optimizer"
                                 else checkpoint[name])
        for parameter, moments in agent.optimizer.state.items():  # PyTorch takes these unseen
            if any(moment.ndim and moment.shape != parameter.shape for moment in moments.values()):
                raise ValueError("optimizer")
        if not all(tensor.isfinite().all() for network in (agent.online, agent.target)
                   for tensor in network.state_dict().values()):
            raise ValueError("not finite")
    except Exception as error:
        sys.exit(f"error: {path} cannot be resumed ({type(error).__name__}); it can still act as a prior")


def saved_state(args: Args, run: Path, checkpoint: dict, fresh: dict) -> dict:
    """What a run goes on from, of the same form as a fresh run's state; exits with one line on any other."""
    state, numbers = checkpoint.get("state"), ("num_nature_actors", "num_prior_actors")
    if (not isinstance(state, dict)
            or {key: type(value) for key, value in state.items()}
            != {key: type(value) for key, value in fresh.items()}
            or len(state["roles"]) != len(fresh["roles"])
            or any(checkpoint["args"][number] != getattr(args, number) for number in numbers)):
        sys.exit(f"error: {run} is of another version, or had other numbers of actors; start anew, "
                 "or use its agent.pt as a prior")
    say(f"resumed at step {state['global_step']:,}; the replay is filled anew")
    return state


def find_priors(args: Args, network: nn.Module) -> tuple[list[str | None], list[float]]:
    """Each actor's prior, None for nature actors (files are shared in turn); the priors' rbar."""
    folder = Path(args.prior_dir) / args.env_id
    paths = sorted(str(path) for path in folder.glob("*.pt"))
    if args.num_prior_actors and not paths:
        sys.exit(f"error: no priors in {folder}: `python pretrain_priors.py --env-id {args.env_id} "
                 f"--algo {ALGO.removeprefix('ca2e-')}` trains one; or run without, by --num-prior-actors 0")
    chosen = [paths[i % len(paths)] for i in range(args.num_prior_actors)]
    averages = [load_checkpoint(path, args.env_id, network)["average_return"] for path in chosen]
    if not np.isfinite(averages).all():
        sys.exit(f"error: a prior in {folder} was saved before its first evaluation; let it train on")
    return [None] * args.num_nature_actors + chosen, averages


# ------------------------------------------------------------------------------------------- Learner (Alg. 3)
class DQN:
    """What learns: theta (online), theta-minus (target), an average of theta to evaluate, the optimizer.

    On a CPU up to MAX_SHARES cores take a share of each batch, in a thread of ours: they meet once an update.
    PyTorch's own threads meet in every layer: slower beside actors, and two runs at once all but halt.
    """

    def __init__(self, args: Args, env, device: torch.device, global_step: int):
        self.args, self.device, self.copies = args, device, global_step // args.target_network_frequency
        alone = args.sync or device.type == "cuda"
        self.shares = 1 if alone else min(MAX_SHARES, torch.get_num_threads())
        self.map = ThreadPoolExecutor(self.shares).map if self.shares > 1 else map
        torch.set_num_threads(1)  # PyTorch's own
        has_bf16 = device.type == "cuda" or torch.cpu.get_capabilities().get("avx512_bf16", False)
        self.bf16 = args.bf16 and has_bf16
        if self.bf16 != args.bf16:
            say("this CPU lacks AVX512-BF16, without which bfloat16 is slow: learning in float32")
        self.online, self.target, self.average = QNetwork(env), QNetwork(env), QNetwork(env)
        for network in (self.online, self.target, self.average):
            network.load_state_dict(self.online.state_dict())
            network.to(device, memory_format=torch.channels_last)
        self.optimizer = torch.optim.Adam(self.online.parameters(), lr=args.learning_rate, fused=True)
        self.theta, self.followers = list(self.online.parameters()), list(self.average.parameters())
        self.parts = {"network": self.average, "online": self.online, "target": self.target,
                      "optimizer": self.optimizer}

    def update(self, batch, global_step: int) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        """One gradient step on a batch, see the loss; the TD errors (B,) and the metrics, on the device."""
        if global_step // self.args.target_network_frequency > self.copies:
            self.copies = global_step // self.args.target_network_frequency
            self.target.load_state_dict(self.online.state_dict())  # theta-minus <- theta
        shares = zip(*(column.chunk(self.shares) for column in batch))
        losses, td_errors, q_values, *gradients = zip(*self.map(self.gradients, shares))
        for parameter, parts in zip(self.theta, gradients):
            parameter.grad = sum(parts[1:], parts[0])
        nn.utils.clip_grad_norm_(self.theta, 10.0)  # Deviation 21
        self.optimizer.step()
        updates = global_step * self.args.samples_per_insert / self.args.batch_size  # 0 where both run free
        rate = max(AVERAGING, 10 / (10 + updates))  # early: over a tenth of the updates so far
        with torch.no_grad():
            torch._foreach_lerp_(self.followers, self.theta, rate)  # Deviation 3
        return torch.cat(td_errors), {
            "losses/td_loss": sum(losses), "losses/q_values": torch.cat(q_values).mean()}

    def gradients(self, share) -> tuple[torch.Tensor, ...]:
        """For some of a batch's transitions: their part of the loss, TD errors, q-values, gradients."""
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.bf16):
            loss, td_errors, q_values = double_q_loss(self.online, self.target, share)
        loss = loss * (len(td_errors) / self.args.batch_size)  # it was a mean over these alone
        return loss.detach(), td_errors, q_values, *torch.autograd.grad(loss, self.theta)


def learner(args: Args, agent, replay, store: SharedArray, weights: SharedArray):
    """Alg. 3: samples, learns, refreshes priorities, publishes weights, until all steps have their updates.

    Yields (state, events, metrics, number of updates) after every call to the replay.
    """
    ids, priorities, metrics, updates = np.zeros(0, np.int64), np.zeros(0), {}, 0
    while True:
        batch_ids, batch_weights, state, events = replay.sample(ids, priorities)
        td_errors = []
        batches = gather(store.array, batch_ids, batch_weights, args)
        for batch in zip(*(torch.from_numpy(column).to(agent.device) for column in batches)):
            td_error, metrics = agent.update(batch, state["global_step"])
            td_errors.append(td_error)
            updates += 1
            if updates % args.publish_frequency == 0:
                publish(weights, agent.online, agent.average)
        ids, priorities = batch_ids.ravel(), np.zeros(0)
        if td_errors:
            priorities = torch.cat(td_errors).abs().cpu().numpy()  # here the learner waits for the device
            bad = np.flatnonzero(~(priorities < 1e18))  # the square of a larger one is infinite in float32
            if bad.size:
                update = state["updates"] - len(td_errors) + 1 + bad[0] // args.batch_size
                sys.exit(f"error: the loss of update {update:,} is not finite "
                         f"(TD error {priorities[bad[0]]}); lower the learning rate, "
                         "or go on from the last checkpoint with --resume")
        yield state, events, metrics, len(td_errors)
        if state["global_step"] >= args.total_timesteps and (not td_errors or args.samples_per_insert == 0):
            return


# -------------------------------------------------------------------------------------------------- Processes
def say(line: str, stream=sys.stdout) -> None:
    """Prints a line; a reader that went away, as in `| head`, does not end the run."""
    try:
        print(line, file=stream, flush=True)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def on_stop(handler) -> None:
    """What Ctrl-C and SIGTERM do from now on."""
    for signum in STOP_SIGNALS:
        signal.signal(signum, handler)


def leave(number, frame) -> None:
    """Ends the learner's process, where nothing has to be saved."""
    sys.exit(128 + number)


def die_with_learner(folder: str = "") -> None:
    """Ends this child as soon as the learner's process is gone, however it went; removes folder."""
    def watch():
        connection.wait([mp.parent_process().sentinel])
        shutil.rmtree(folder, ignore_errors=True)
        os._exit(1)
    threading.Thread(target=watch, daemon=True).start()


def run_child(args: Args, index: int, prior: str | None, replay, store, weights) -> None:
    """The life of an actor's process, or, with index num_actors, of the evaluator's."""
    die_with_learner()
    torch.set_num_threads(1)
    if args.samples_per_insert > 0 and index < args.num_actors:
        os.nice(19)  # a learner on the CPU is not to wait for actors that run ahead of it
    try:
        if index == args.num_actors:
            for _ in evaluator(args, replay, weights):
                time.sleep(0.2)
        for _ in actor(args, index, prior, replay, store, weights):
            while not replay.my_turn(index):
                time.sleep(0.05)  # every question costs the learner's cores a tenth of a millisecond
    except BaseException:
        try:
            replay.failed(mp.current_process().name, traceback.format_exc())
        except (EOFError, ConnectionError):
            os._exit(0)  # the manager is gone: the learner says so
        os._exit(1)


def deaf(start, *args) -> None:
    """Calls start, which starts a child, with stop signals blocked: Ctrl-C is the learner's business."""
    signal.pthread_sigmask(signal.SIG_BLOCK, STOP_SIGNALS)
    try:
        start(*args)
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, STOP_SIGNALS)


class Crew:
    """The child processes: the replay's manager, the actors and the evaluator."""

    def __init__(self, args: Args, priors: list, averages: list[float], store, weights, state: dict):
        self.args, self.deaths = args, []
        method = "forkserver" if "forkserver" in mp.get_all_start_methods() else "spawn"
        self.context = mp.get_context(method)
        if method == "forkserver":  # children share what is imported here, and start in a tenth of a second
            self.context.set_forkserver_preload(PRELOAD)
        resource_tracker.ensure_running()  # now, since it would lift the block on signals
        tempfile.tempdir = "/tmp"  # there multiprocessing makes a private folder for sockets: a short path
        self.manager = managers.BaseManager(ctx=self.context)
        try:
            deaf(self.manager.start, die_with_learner, (util.get_temp_dir(),))
            self.replay = self.manager.PrioritizedReplay(args, averages, state)
            self.children = [(args, index, prior, self.replay, store, weights)
                             for index, prior in enumerate([*priors, None])]  # the evaluator comes last
            self.processes = [self.start(index) for index in range(len(self.children))]
        except BaseException:
            self.close()
            raise

    def start(self, index: int):
        """Starts an actor, or the evaluator; an actor started again goes on in its own part of the replay."""
        process = self.context.Process(
            target=run_child, args=self.children[index], daemon=True,
            name="the evaluator" if index == self.args.num_actors else f"actor {index}")
        deaf(process.start)
        return process

    def restart_dead(self) -> str | None:
        """Starts again what died; names a child that, at the last call, kept dying: its traceback is out."""
        recent = [index for index, when in self.deaths if time.monotonic() - when < 60]
        hopeless = [process.name for index, process in enumerate(self.processes)
                    if recent.count(index) >= DEATHS_A_MINUTE]
        for index, process in enumerate(self.processes):
            if process.exitcode not in (None, 0):  # 0: it misses the manager, and so will the learner
                if process.exitcode == 255:  # its fork server died, and it may only seem dead
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(process.pid, signal.SIGKILL)
                self.deaths.append((index, time.monotonic()))
                say(f"{process.name} died (status {process.exitcode}) and is started again")
                self.processes[index] = self.start(index)
        return hopeless[0] if hopeless else None

    def close(self) -> None:
        """Ends every child at once: none holds anything that a kill could harm."""
        for child in (children := mp.active_children()):
            child.kill()
        for child in children:
            child.join()


# ------------------------------------------------------------------------------------------------------- Main
class Log:
    """TensorBoard and the progress line; only the learner's process writes either."""

    def __init__(self, args: Args, run: Path, state: dict):
        self.args, self.first = args, (time.monotonic(), state["global_step"], state["updates"])
        self.before = self.first
        threading.excepthook = lambda _: None  # what fails in TensorBoard's thread, our next call raises too
        self.writer = SummaryWriter(run, purge_step=state["global_step"] + 1 if args.resume else None)
        self.writer.add_text("args", "\n".join(f"    {key} = {value}" for key, value in asdict(args).items()))

    def __call__(self, state: dict, events: list, metrics: dict, deaths: int) -> None:
        """Writes the events of one call to the replay; every LOG_SECONDS also the losses and rates."""
        step = state["global_step"]
        for kind, *event in events:
            if kind == "episode":
                self.writer.add_scalar(f"charts/{event[0]}episodic_return", event[1], step)
                self.writer.add_scalar(f"charts/{event[0]}episodic_length", event[2], step)
            elif kind == "evaluation":
                self.writer.add_scalar("charts/eval_return", event[1].mean(), event[0])
                self.writer.add_scalar("charts/eval_return_std", event[1].std(), event[0])
            else:
                say(f"\n{event[0]} failed:\n{event[1]}", sys.stderr)
        now = (time.monotonic(), step, state["updates"])
        if now[0] - self.before[0] < LOG_SECONDS:
            return
        seconds, steps, updates = (new - old for new, old in zip(now, self.before))
        _, run_steps, run_updates = (new - old for new, old in zip(now, self.first))
        self.before = now
        priors = [str(index) for index, role in enumerate(state["roles"]) if role is None]
        scalars = {
            "charts/SPS": steps / seconds, "charts/updates_per_second": updates / seconds,
            "charts/samples_per_insert":
                run_updates * self.args.batch_size / max(1, run_steps - self.args.learning_starts),
            "charts/updates": state["updates"], "charts/restarts": deaths,
            "charts/acting_priors": len(priors),
            "charts/nature_steps": step - state["prior_steps"], "charts/prior_steps": state["prior_steps"],
            "charts/prior_replay_share": state["prior_replay_share"],
            "charts/prior_batch_share": state["prior_batch_share"],
            **{name: value.item() for name, value in metrics.items()}}
        for name, value in scalars.items():
            self.writer.add_scalar(name, value, step)
        greedy = f"{state['evaluations'][-1]:.1f}" if state["evaluations"] else "none yet"
        left = max(0, self.args.total_timesteps - step) * seconds / max(1, steps) / 60
        say(f"step {step:,} of {self.args.total_timesteps:,} | {steps / seconds:.0f} steps/s | "
            f"{updates / seconds:.0f} updates/s | "
            f"{scalars['charts/samples_per_insert']:.1f} samples/insert | greedy return {greedy} | "
            f"priors acting: {', '.join(priors) or 'none'} | {left:.0f} min left")


def check(args: Args, fields: list) -> None:
    """Refuses settings that cannot work, each in one line."""
    slots = min(args.buffer_size, args.total_timesteps)
    least = args.num_actors * (2 * args.local_buffer_size + STACK + args.n_step)
    whole = free = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    if (limit := Path("/sys/fs/cgroup/memory.max")).exists() and limit.read_text().strip().isdigit():
        whole = min(whole, int(limit.read_text()) / 2**30)  # a container's own
    if (meminfo := Path("/proc/meminfo")).exists():
        free = int(meminfo.read_text().split("MemAvailable:")[1].split()[0]) / 2**20
    needed = slots * np.dtype(fields, align=True).itemsize / 2**30
    for wrong, message in (
        (args.num_actors < 1, "no actors: set --num-nature-actors or --num-prior-actors above 0"),
        (min(args.batch_size, args.local_buffer_size, args.eval_episodes, args.retire_patience,
             args.publish_frequency, args.eval_frequency) < 1,
         "sizes, frequencies, --eval-episodes and --retire-patience must be 1 or more"),
        (not 1 <= args.n_step <= 255, "--n-step must be 1 to 255"),
        (min(args.target_network_frequency, args.exploration_steps) < 1,
         "--target-network-frequency and --exploration-steps must be 1 or more"),
        (args.learning_starts >= args.total_timesteps, "--learning-starts must be below --total-timesteps"),
        (args.batch_size > slots, f"--batch-size {args.batch_size} is larger than the buffer of {slots}"),
        (slots < least, f"{args.num_actors} actors of --local-buffer-size {args.local_buffer_size} need "
                        f"--buffer-size and --total-timesteps of {least} at least"),
        (args.sync and args.samples_per_insert <= 0, "--sync takes turns by --samples-per-insert: set it"),
        (needed > whole, f"a replay of {slots:,} needs {needed:.1f} GiB of {whole:.1f}; lower --buffer-size"),
    ):
        if wrong:
            sys.exit(f"error: {message}")
    if needed > free:
        say(f"warning: the replay will grow to {needed:.1f} GiB, only {free:.1f} are free", sys.stderr)


def parse() -> Args:
    """The settings from the command line; with --resume, those of that run, but for flags given anew."""
    args = tyro.cli(Args)
    if args.resume:
        try:
            saved = torch.load(Path(args.resume) / "agent.pt", map_location="cpu", weights_only=True)["args"]
            saved = Args(**{**saved, "resume": args.resume})
            if any(not isinstance(value, (type(default), int))
                   for value, default in zip(asdict(saved).values(), asdict(args).values())):
                raise TypeError
            if ":" in saved.env_id and saved.env_id != args.env_id:  # gymnasium would import it
                raise PermissionError
        except Exception as error:
            sys.exit(f"error: {args.resume} holds no agent.pt that this version can go on from "
                     f"({type(error).__name__}); start anew, or use it as a prior")
        args = tyro.cli(Args, default=saved)
    return args


def play_saved(args: Args, path: Path, network: nn.Module) -> float:
    """Twenty greedy games of network, their average printed and returned; --capture-video films the first."""
    film = [] if args.capture_video else None
    returns = play_atari(args.env_id, network, 20, args.seed, film)
    say(f"{path}: {returns.mean():.2f} +- {returns.std():.2f} over 20 greedy games")
    if film:
        imageio.mimsave(path.with_suffix(".gif"), film[::FILM_EVERY], duration=66, loop=0)
    return float(returns.mean())


def save_agent(args: Args, path: Path, agent, state: dict, final_return: float | None = None) -> None:
    """Writes what --resume, --evaluate and, as a prior, another run need."""
    average_return = (state["evaluations"] or [-float("inf")])[-1] if final_return is None else final_return
    parts = {name: part.state_dict() for name, part in agent.parts.items()}
    networks = [*agent.online.parameters(), *agent.target.parameters()]
    if not all(tensor.isfinite().all() for tensor in networks):
        sys.exit(f"error: the weights are no longer finite at update {state['updates']:,}, not saved")
    save_checkpoint(path, {
        "format": CHECKPOINT_FORMAT, "algo": ALGO, "env_id": args.env_id, "args": asdict(args),
        "average_return": average_return, "episodes": args.eval_episodes if final_return is None else 20,
        "global_step": state["global_step"], "state": state, **parts})


def take_turns(args: Args, priors: list, replay, store: SharedArray, weights: SharedArray):
    """--sync: actors and evaluator in this process; yields after each round."""
    actors = [actor(args, index, prior, replay, store, weights) for index, prior in enumerate(priors)]
    evaluations = evaluator(args, replay, weights)
    while True:
        for index, acting in enumerate(actors):
            if replay.my_turn(index):
                next(acting)
        next(evaluations)
        yield


def main(args: Args) -> None:
    """Fig. 1: check, share, start the actors, learn, measure, save."""
    torch.manual_seed(args.seed)
    torch.backends.cudnn.deterministic = args.torch_deterministic
    device = torch.device("cuda" if args.cuda and torch.cuda.is_available() else "cpu")
    env = make_atari(args.env_id)
    network = QNetwork(env)  # on the CPU, to play with
    if args.evaluate:
        network.load_state_dict(load_checkpoint(args.evaluate, args.env_id, network)["network"])
        play_saved(args, Path(args.evaluate), network)
        return
    check(args, slot(env))
    priors, averages = find_priors(args, network)

    name = f"{args.env_id.replace('/', '-')}__{ALGO}__{args.seed}__{int(time.time())}"
    run = Path(args.resume or f"runs/{name}")
    # roles: an actor's place on the ladder, None while it acts as a prior; evaluations: their averages
    state = {"global_step": 0, "prior_steps": 0, "updates": 0, "evaluations": [],
             "prior_replay_share": 0.0, "prior_batch_share": 0.0,
             "roles": [*range(args.num_nature_actors), *[None] * args.num_prior_actors]}
    if args.resume:
        checkpoint = load_checkpoint(run / "agent.pt", args.env_id, network)
        state = saved_state(args, run, checkpoint, state)
    agent = DQN(args, env, device, state["global_step"])
    if args.resume:
        load_agent(run / "agent.pt", agent, checkpoint)
    try:
        run.mkdir(parents=True, exist_ok=bool(args.resume))
        log = Log(args, run, state)
    except OSError as error:
        sys.exit(f"error: cannot write to {run} ({error.strerror}); run where you may write")

    stop, saved, crew = [], -float("inf"), None  # the first checkpoint is saved at once
    on_stop(lambda number, frame: stop.append(number))
    store = SharedArray(args.num_actors * args.part, slot(env))
    num_weights = sum(parameter.numel() for parameter in agent.online.parameters())
    weights = SharedArray(2, [("version", np.int64), ("vector", np.float32, (num_weights,))])
    publish(weights, agent.online, agent.average)
    say(f"{run} | {args.num_nature_actors} nature + {args.num_prior_actors} prior actors | "
        f"learner on {device}")
    try:
        if args.sync:
            replay = PrioritizedReplay(args, averages, state)
            turns = take_turns(args, priors, replay, store, weights)
        else:
            crew = Crew(args, priors, averages, store, weights, state)
            replay = crew.replay
        for state, events, metrics, updates in learner(args, agent, replay, store, weights):
            log(state, events, metrics, len(crew.deaths) if crew else 0)
            hopeless = crew.restart_dead() if crew else None
            if stop or hopeless or time.monotonic() - saved > SAVE_SECONDS:
                save_agent(args, run / "agent.pt", agent, state)
                saved = time.monotonic()
            if stop:
                say(f"\nstopped at step {state['global_step']:,}; go on with "
                    f"`python {Path(__file__).name} --resume {run}`")
                sys.exit(128 + stop[0])
            if hopeless:
                sys.exit(f"error: {hopeless} died {DEATHS_A_MINUTE} times within a minute")
            if updates == 0:  # the rate limit holds the learner
                next(turns) if args.sync else time.sleep(0.01)
    except (EOFError, ConnectionError) as error:
        sys.exit(f"error: the replay's manager died ({type(error).__name__}), out of memory perhaps; "
                 f"go on from the last checkpoint with --resume {run}")
    finally:
        if crew is not None:
            crew.close()
    save_agent(args, run / "agent.pt", agent, state)
    on_stop(leave)  # what follows may be stopped at any time
    say(f"all steps are done and {run / 'agent.pt'} is saved; 20 greedy games measure it")
    network.load_state_dict(agent.parts["network"].state_dict())
    final_return = play_saved(args, run / "agent.pt", network)
    save_agent(args, run / "agent.pt", agent, state, final_return)
    log.writer.add_scalar("charts/final_return", final_return, state["global_step"])
    log.writer.close()


if __name__ == "__main__":
    on_stop(leave)
    try:
        main(parse())
    except OSError as refused:  # a full disk, say
        sys.exit(f"error: the system refuses ({refused}); what was saved before is intact")
