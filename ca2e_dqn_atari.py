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
"""CA2E-DQN on Atari: "Compound Asynchronous Exploration and Exploitation" (Bai, Liu, Wang, Zhang, Li), in one file.

    5 nature actors (explore) ---+   first priorities    +------------------------+   ids, weights    +---------+
    3 prior actors  (exploit) ---+---------------------> | PrioritizedReplay      | ----------------> | learner |
         ^     each plays a game |                       | sum tree, rate limiter | <---------------- | CUDA or |
         |                       |                       | (a manager process)    |  new priorities   |   CPU   |
         |                       +--- frames, actions -> +------------------------+                   +---------+
         |                            and returns lie in shared memory, whence the learner gathers       |
         +------------------------------- newest weights, through shared memory -------------------------+

    python ca2e_dqn_atari.py --env-id PongNoFrameskip-v4                      # the paper's settings, 10M steps
    python ca2e_dqn_atari.py --env-id PongNoFrameskip-v4 --total-timesteps 200000 --buffer-size 200000 \
        --exploration-steps 50000 --end-e 0.02 --target-network-frequency 2000 --bf16     # a laptop, 2 cores: 15 min
    python ca2e_dqn_atari.py --env-id PongNoFrameskip-v4 --evaluate runs/<name>/agent.pt --capture-video

Read `main` first (it is the paper's Fig. 1), then `actor` (Alg. 1), `LocalBuffer` and `PrioritizedReplay` (Alg. 2),
`learner` (Alg. 3). "Deviation 4" and the like point into the README's table of what the paper leaves open.
"""

import multiprocessing as mp
import os
import signal
import sys
import tempfile
import threading
import time
import traceback
from dataclasses import asdict, dataclass
from multiprocessing import connection, heap, resource_tracker
from multiprocessing.managers import BaseManager
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
BATCHES_PER_CALL = 32  # few, fat calls: the learner asks the manager for the next 32 batches at once
SAVE_SECONDS = 180  # between checkpoints
LOG_SECONDS = 10  # between progress lines


# ------------------------------------------------------------------------------------------------------------- Args
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
    """learn in bfloat16 (about 1.5 times as fast on a CPU with AVX512-BF16) [ours]"""
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
    """transitions sampled per transition inserted (DQN: 32 every 4 steps); 0 runs free, as the paper [ours]"""
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


# ------------------------------------------------------------------------------------------------------ Environment
def atari_game(env_id: str) -> tuple[str, float]:
    """The ROM name and the probability of a sticky action behind a registered Atari id; exits on any other id."""
    gym.register_envs(ale_py)
    try:
        spec = gym.spec(env_id)
    except gym.error.Error:
        sys.exit(f"error: no environment {env_id!r}; Atari ids look like PongNoFrameskip-v4 or ALE/Pong-v5")
    if spec.entry_point != "ale_py.env:AtariEnv":
        sys.exit(f"error: {env_id} is not an Atari game; ids look like PongNoFrameskip-v4 or ALE/Pong-v5")
    if not env_id.startswith("ALE/") and "NoFrameskip" not in env_id:  # Pong-v4, PongDeterministic-v4
        name = env_id.split("-")[0].removesuffix("Deterministic")
        sys.exit(f"error: {env_id} skips frames of its own; use {name}NoFrameskip-v4")
    return spec.kwargs["game"], spec.kwargs["repeat_action_probability"]


def make_env(env_id: str, num_envs: int = 1, grayscale: bool = True) -> AtariVectorEnv:
    """Atari as App. A has it: frame skip 4, gray 84x84, stack of 4, up to 30 no-ops; observations (num_envs, 4, 84, 84).

    `terminated` is true at every lost life (Deviation 18), the game is over when it is true and no lives are left.
    The step after a game's end ignores its action and returns the next game's first observation.
    """
    game, sticky = atari_game(env_id)
    size = {} if grayscale else {"img_height": 210, "img_width": 160, "stack_num": 1}
    return AtariVectorEnv(game, num_envs, num_threads=1, repeat_action_probability=sticky, reward_clipping=False,
                          life_loss_info=True, grayscale=grayscale, **size)


def fire_action(env: AtariVectorEnv) -> int | None:
    """The index of FIRE, which some games wait for after a lost life; None where the game has no such button."""
    actions = list(env.ale.get_action_set())
    return actions.index(ale_py.Action.FIRE) if ale_py.Action.FIRE in actions else None


# --------------------------------------------------------------------------------------------------------- Networks
class QNetwork(nn.Module):
    """q(s, .) of App. A: 3 convolutions, 512 hidden units with layer norm, one linear output per action."""

    def __init__(self, num_actions: int):
        super().__init__()
        self.network = nn.Sequential(
            nn.Conv2d(4, 32, 8, stride=4), nn.ReLU(),
            nn.Conv2d(32, 64, 4, stride=2), nn.ReLU(),
            nn.Conv2d(64, 64, 3, stride=1), nn.ReLU(),
            nn.Flatten(),
            nn.Linear(3136, 512), nn.LayerNorm(512), nn.ReLU(),
            nn.Linear(512, num_actions),
        )  # fmt: skip

    def forward(self, states: torch.Tensor) -> torch.Tensor:
        """states (B, 4, 84, 84) uint8 -> q-values (B, num_actions)."""
        return self.network(states / 255.0)


def play_games(env_id: str, q_network: QNetwork, games: int, seed: int, epsilon: float = 0.001) -> np.ndarray:
    """Unclipped returns (games,) of full games, all played side by side, acting greedily but for epsilon."""
    env, rng = make_env(env_id, games), np.random.default_rng(seed)
    fire, num_actions = fire_action(env), env.single_action_space.n
    states, info = env.reset(seed=seed)
    returns, playing, lives, life_lost = np.zeros(games), np.ones(games, bool), info["lives"], np.zeros(games, bool)
    while playing.any():
        actions = np.zeros(games, np.int64)
        with torch.inference_mode():
            actions[playing] = q_network(torch.from_numpy(states[playing])).argmax(1).numpy()
        random = rng.random(games) < epsilon
        actions[random] = rng.integers(num_actions, size=random.sum())
        if fire is not None:
            actions[life_lost] = fire
        states, rewards, terminations, truncations, info = env.step(actions)
        returns += rewards * playing
        life_lost, lives = terminations & (info["lives"] > 0), info["lives"]
        playing &= ~((terminations & (lives == 0)) | truncations)
    env.close()
    return returns


# ------------------------------------------------------------------------------------------------------------- Loss
def double_q_loss(q_network, target_network, batch) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """The loss of section 5.1 with importance weights, a scalar; the TD errors (B,); q(s_t, a_t) (B,).

    batch: states (B, 4, 84, 84), actions (B,), returns (B,), discounts (B,), next_states (B, 4, 84, 84), weights (B,).
    """
    states, actions, returns, discounts, next_states, weights = batch
    with torch.no_grad():
        best_actions = q_network(next_states).argmax(1, keepdim=True)  # argmax_a q(s_{t+n}, a; theta)  (B, 1)
        next_q = target_network(next_states).gather(1, best_actions).squeeze(1)  # q(s_{t+n}, ., theta-)  (B,)
        td_target = returns + discounts * next_q  # sum_i gamma^i R_{t+i} + gamma^n q(...)  (B,)
    q_values = q_network(states).gather(1, actions.unsqueeze(1)).squeeze(1).float()  # q(s_t, a_t; theta)  (B,)
    td_errors = td_target - q_values
    return (weights * 0.5 * td_errors.square()).mean(), td_errors.detach(), q_values.detach()


def first_priorities(q_network, states, actions, returns, discounts, after) -> np.ndarray:
    """Deviation 4: abs(G_t + gamma^k max_a q(s_{t+k}, a) - q(s_t, a_t)) of consecutive steps, one network, as Ape-X.

    states (L, 4, 84, 84); actions, returns, discounts (L,); after (L,): where in states s_{t+k} stands -> (L,).
    """
    with torch.inference_mode():
        q_values = q_network(torch.from_numpy(states)).numpy()  # (L, num_actions)
    return np.abs(returns + discounts * q_values.max(1)[after] - q_values[np.arange(len(actions)), actions])


# ---------------------------------------------------------------------------------------- Shared memory and weights
def nameless_memory(size: int) -> heap.Arena:
    """Memory that children inherit, that is committed as it is touched, and that no crash can leave behind."""
    if not hasattr(os, "memfd_create"):  # macOS
        return heap.Arena(size)
    fd = os.memfd_create("ca2e")
    os.ftruncate(fd, size)
    return heap.Arena(size, fd)


class SharedArrays:
    """Numpy arrays in shared memory, one attribute each; a child process that is handed the object sees the same."""

    def __init__(self, **specs: tuple[tuple[int, ...], type]):
        self.specs = {name: (shape, np.dtype(dtype)) for name, (shape, dtype) in specs.items()}
        self.arenas = {name: nameless_memory(max(1, int(np.prod(shape)) * dtype.itemsize))
                       for name, (shape, dtype) in self.specs.items()}
        self.__setstate__((self.specs, self.arenas))

    def __getstate__(self):
        return self.specs, self.arenas

    def __setstate__(self, state):
        self.specs, self.arenas = state
        for name, (shape, dtype) in self.specs.items():
            array = np.frombuffer(self.arenas[name].buffer, dtype, int(np.prod(shape))).reshape(shape)
            setattr(self, name, array)


def replay_arrays(args: Args) -> SharedArrays:
    """The bulk of the replay, one entry a slot; 7.1 GB for a million, committed as it fills."""
    slots = args.num_actors * args.part
    return SharedArrays(ids=((slots,), np.int64), frames=((slots, 84, 84), np.uint8), actions=((slots,), np.int64),
                        returns=((slots,), np.float32), discounts=((slots,), np.float32),
                        steps=((slots,), np.uint8), ages=((slots,), np.uint8))


def shared_weights(network: nn.Module) -> SharedArrays:
    """Room for the parameters of network as one vector, and a version counter that is odd while they are written."""
    size = sum(parameter.numel() for parameter in network.parameters())
    return SharedArrays(vector=((size,), np.float32), version=((1,), np.int64))


def publish(weights: SharedArrays, network: nn.Module) -> None:
    """Learner: replaces the published parameters. Only one process may publish."""
    vector = torch.cat([parameter.detach().flatten() for parameter in network.parameters()]).cpu().numpy()
    weights.version[0] += 1
    weights.vector[:] = vector
    weights.version[0] += 1


def newest_weights(weights: SharedArrays, network: nn.Module, seen: int) -> int:
    """Actor: copies what was published after version `seen` into network; returns the version that it then has."""
    while (version := int(weights.version[0])) != seen:
        vector = torch.from_numpy(weights.vector.copy())
        if version % 2 == 0 and weights.version[0] == version:  # nobody wrote before or during the copy
            nn.utils.vector_to_parameters(vector, network.parameters())
            return version
        time.sleep(0.001)
    return seen


# ----------------------------------------------------------------------------------- N-step local buffer (Alg. 2)
def n_step_transitions(rewards, terminations, last, n: int, gamma: float):
    """N-step returns of L consecutive steps of one actor: (returns, discounts, steps, complete), each (L,).

    terminations[t]: a life or the game was lost on the way to s_{t+1}; last[t]: s_t is a game's last observation, and
    no transition. A window of n steps is cut at both; it is complete where s_{t+k} is among the L.

        rewards 1 2 3 4, n = 3, gamma = 0.9:  G_0 = 1 + 0.9 * 2 + 0.81 * 3,  discount 0.9^3, k = 3
        the same, terminations[1] is true:    G_0 = 1 + 0.9 * 2,             discount 0,     k = 2
        the same, last[2] is true:            G_0 = 1 + 0.9 * 2,             discount 0.9^2, k = 2 (truncated)
    """
    length = len(rewards)
    returns, discounts = np.zeros(length, np.float32), np.zeros(length, np.float32)
    steps, open_ = np.zeros(length, np.int64), ~last
    for i in range(n):
        t = np.flatnonzero(open_[: length - 1 - i])  # the open windows whose step t + i has its successor among the L
        returns[t] += gamma**i * rewards[t + i]  # G_t = sum_i gamma^i R_{t+i+1}
        discounts[t] = gamma ** (i + 1) * ~terminations[t + i]
        steps[t] = i + 1
        open_[t] = ~terminations[t + i] & ~last[t + i + 1]
    complete = ~last & (~open_ | (steps == n))
    return returns, discounts, steps, complete


class LocalBuffer:
    """An actor's own buffer of Alg. 2: collects B steps, then delivers them, with priorities, to the replay.

    A slot of the replay holds one frame, action, return: s_t is rebuilt from the frames of slots t-3..t, s_{t+k} from
    those that end at t+k. A game's last observation takes a slot of its own, which is never sampled.
    """

    def __init__(self, args: Args, store: SharedArrays, actor: int, head: int):
        self.args, self.store, self.actor, self.head = args, store, actor, head
        self.columns = {name: [] for name in ("states", "actions", "rewards", "terminations", "last", "ages")}
        self.episodes = []  # (return, length) of games that ended since the last delivery

    def append(self, state, action, reward, termination, last, age) -> None:
        """One step: s_t, a_t, R_{t+1}, lost a life or the game?, is s_t a game's last observation?, steps into the game."""
        for column, value in zip(self.columns.values(), (state, action, reward, termination, last, age)):
            column.append(value)

    def deliver(self, replay, network) -> tuple[int | None, int]:
        """Alg. 2, "calculate priorities ... add prioritized experience"; returns the replay's answer."""
        store, part = self.store, self.args.part
        columns = {name: np.asarray(column) for name, column in self.columns.items()}
        states, actions = columns["states"], columns["actions"]
        length = len(actions)
        returns, discounts, steps, complete = n_step_transitions(
            columns["rewards"], columns["terminations"], columns["last"], self.args.n_step, self.args.gamma)
        priorities = first_priorities(network, states, actions, returns, discounts, np.arange(length) + steps)

        first = self.head + self.args.local_buffer_size - length  # the oldest step not yet delivered
        counts = np.arange(first, first + length)
        slots = self.actor * part + counts % part
        ids = counts // part * (self.args.num_actors * part) + slots
        store.ids[slots] = ids  # first, so that a reader sees that the rest is about to change
        store.frames[slots], store.actions[slots], store.ages[slots] = states[:, -1], actions, columns["ages"]
        store.returns[slots], store.discounts[slots], store.steps[slots] = returns, discounts, steps
        self.head += self.args.local_buffer_size
        answer = replay.add(self.actor, self.head, ids[complete], priorities[complete], self.episodes)

        waiting = int(np.flatnonzero(complete | columns["last"]).max(initial=-1)) + 1  # the rest awaits its s_{t+k}
        self.columns = {name: list(column[waiting:]) for name, column in self.columns.items()}
        self.episodes = []
        return answer


# -------------------------------------------------------------------------------- Prioritized replay (Alg. 2 and 3)
class SumTree:
    """A binary tree over priorities whose inner nodes hold the sum of their children; every method takes arrays."""

    def __init__(self, capacity: int):
        self.leaves = 1 << max(1, (capacity - 1).bit_length())  # the leaf of slot i is node leaves + i, node 1 the root
        self.nodes = np.zeros(2 * self.leaves)

    def set(self, slots: np.ndarray, priorities: np.ndarray) -> None:
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
            right = (values >= left) & (self.nodes[nodes + 1] > 0)  # never into an empty branch, whatever the rounding
            values -= left * right
            nodes += right
        return nodes - self.leaves


def importance_weights(priorities: np.ndarray, beta: float) -> np.ndarray:
    """(n, B) priorities -> (n, B) weights (N P(i))^-beta, scaled so that each batch's largest is 1 [PER, 3.4]."""
    return (priorities / priorities.min(axis=-1, keepdims=True)) ** -beta  # N and the sum in P(i) cancel


def samples_owed(inserted: int, sampled: int, args: Args) -> float:
    """Transitions that the learner has yet to sample to be even with the actors; negative before learning_starts."""
    return args.samples_per_insert * (inserted - args.learning_starts) - sampled


def may_insert(inserted: int, sampled: int, args: Args) -> bool:
    """The rate limit on actors: up to a block's worth of samples, and what the learner takes at once, may be owed."""
    slack = args.samples_per_insert * args.local_buffer_size + BATCHES_PER_CALL * args.batch_size
    return args.samples_per_insert == 0 or samples_owed(inserted, sampled, args) <= max(0, slack)


def may_sample(inserted: int, sampled: int, args: Args) -> int:
    """The rate limit on the learner: how many batches it may take now."""
    if inserted < args.learning_starts:
        return 0
    if args.samples_per_insert == 0:
        return BATCHES_PER_CALL
    return min(BATCHES_PER_CALL, int(max(0, samples_owed(inserted, sampled, args)) // args.batch_size))


def retires(evaluations: list[float], average_return: float, retire_ratio: float, retire_patience: int) -> bool:
    """Alg. 1.1, "if several times r >= alpha rbar" (Deviations 1 and 2): the last evaluations all exceed the prior's."""
    threshold = average_return + (retire_ratio - 1) * abs(average_return)
    newest = evaluations[-retire_patience:]
    return len(newest) == retire_patience and all(r >= threshold for r in newest)


class PrioritizedReplay:
    """The index of the replay, served by a manager process: which slot holds what, and how likely it is sampled.

    Frames, actions and returns never come here: they lie in shared memory. Actor a's c-th step has the slot
    a * part + c % part and the id (c // part) * capacity + slot, so that an id is never used twice. No call waits.
    """

    def __init__(self, args: Args, averages: list[float], progress: dict):
        self.args, self.averages, self.lock = args, averages, threading.Lock()
        self.capacity = args.num_actors * args.part
        self.tree, self.ids = SumTree(self.capacity), np.full(self.capacity, -1)
        self.rng = np.random.default_rng(args.seed)
        self.heads, self.waiting = [0] * args.num_actors, []
        self.first_step = self.global_step = progress["global_step"]
        self.prior_steps, self.sampled = progress["prior_steps"], 0
        # an actor's place on the epsilon ladder; None while it acts as a prior
        self.roles, self.evaluations = list(progress["roles"]), list(progress["evaluations"])
        self.news = {"episodes": [], "evaluations": [], "tracebacks": []}

    def join(self, actor: int) -> tuple[int, int | None, int]:
        """An actor starts, or starts again: (count of its first step, its role, global step)."""
        with self.lock:
            self.waiting = [other for other in self.waiting if other != actor]
            return self.heads[actor], self.roles[actor], self.global_step

    def may_insert(self, actor: int) -> bool:
        """The rate limit. Actors that it holds take turns, so that the mix of data stays that of the actors."""
        with self.lock:
            if actor not in self.waiting:
                self.waiting.append(actor)
            go = self.waiting[0] == actor and self.global_step < self.args.total_timesteps and may_insert(
                self.global_step - self.first_step, self.sampled, self.args)
            if go:
                self.waiting.pop(0)
            return go

    def add(self, actor: int, head: int, ids, priorities, episodes) -> tuple[int | None, int]:
        """Alg. 2: one block of an actor, up to its step `head`; returns (its role, global step)."""
        args = self.args
        with self.lock:
            self._set(ids, priorities)
            # Alg. 3, "periodically remove old experience": what the actor's next block overwrites, with the stacks in it
            ahead = np.arange(head, head + args.local_buffer_size + STACK - 1)
            self.tree.set(actor * args.part + ahead % args.part, 0.0)
            self.ids[actor * args.part + ahead % args.part] = -1
            self.heads[actor] = head
            self.global_step += len(ids)
            self.prior_steps += len(ids) * (self.roles[actor] is None)
            self.news["episodes"] += [(self.roles[actor], *episode) for episode in episodes]
            return self.roles[actor], self.global_step

    def sample(self, ids, priorities):
        """Alg. 3: takes the priorities of the batches learned from, returns ids and weights of the next, and the news.

        ids and priorities (m,) -> ids (n, B), weights (n, B), news; n is 0 while the rate limit holds the learner.
        """
        with self.lock:
            live = self.ids[ids % self.capacity] == ids  # an overwritten slot's late priority is dropped
            self._set(ids[live], priorities[live])
            n, batch_size = may_sample(self.global_step - self.first_step, self.sampled, self.args), self.args.batch_size
            total = self.tree.nodes[1]
            strata = (np.arange(batch_size) + self.rng.random((n, batch_size))) / batch_size  # one draw from each stratum
            slots = self.tree.find((strata * total).ravel())
            weights = importance_weights(self.tree.nodes[self.tree.leaves + slots].reshape(n, batch_size),
                                         self.args.per_beta)
            self.sampled += n * batch_size
            news = {**self.news, "global_step": self.global_step, "prior_steps": self.prior_steps, "roles": self.roles,
                    "sampled": self.sampled, "inserted": self.global_step - self.first_step}
            self.news = {"episodes": [], "evaluations": [], "tracebacks": []}
            return self.ids[slots].reshape(n, batch_size), weights.astype(np.float32), news

    def _set(self, ids, priorities) -> None:
        slots = ids % self.capacity
        self.ids[slots] = ids
        self.tree.set(slots, (priorities + 1e-6) ** self.args.per_alpha)

    def step(self) -> int:
        """Global step: transitions inserted by all actors."""
        with self.lock:
            return self.global_step

    def evaluated(self, global_step: int, returns) -> None:
        """The evaluator's report: games' returns with the learner's weights as of global_step. Retires priors."""
        with self.lock:
            self.evaluations.append(float(np.mean(returns)))
            self.news["evaluations"].append((global_step, returns))
            for actor, average_return in enumerate(self.averages, start=self.args.num_nature_actors):
                if self.roles[actor] is None and retires(
                        self.evaluations, average_return, self.args.retire_ratio, self.args.retire_patience):
                    self.roles[actor] = sum(role is not None for role in self.roles)  # the ladder's next place

    def failed(self, name: str, text: str) -> None:
        """A child's traceback, for the learner to print."""
        with self.lock:
            self.news["tracebacks"].append((name, text))


class ReplayManager(BaseManager):
    """The process that serves PrioritizedReplay, on a socket in a private folder."""


ReplayManager.register("PrioritizedReplay", PrioritizedReplay)


def gather(store: SharedArrays, ids: np.ndarray, args: Args, weights: np.ndarray):
    """The batch behind ids (B,): states, actions, returns, discounts, next_states, weights, as numpy arrays.

    A transition that its actor began to overwrite since it was sampled gets the weight 0.
    """
    part, slots = args.part, ids % (args.num_actors * args.part)
    first, position = slots - slots % part, slots % part

    def stacks(position):  # frames t-3..t, zeros before the game's first  (B, 4, ...)
        back = np.arange(STACK - 1, -1, -1)
        frames = store.frames[first[:, None] + (position[:, None] - back) % part]
        frames[back > store.ages[first + position % part][:, None]] = 0
        return frames

    batch = (stacks(position), store.actions[slots], store.returns[slots], store.discounts[slots],
             stacks(position + store.steps[slots]))
    count = ids // (args.num_actors * part) * part + position - np.minimum(store.ages[slots], STACK - 1)
    oldest = count // part * (args.num_actors * part) + first + count % part  # id of the first frame of the stack
    return *batch, np.where(store.ids[first + count % part] == oldest, weights, np.float32(0))


# ---------------------------------------------------------------------------------------------- Actors (Alg. 1)
def epsilon_ladder(place: int, global_step: int, args: Args) -> float:
    """Epsilon of the nature actor at a place of the ladder: evenly from start_e to min_start_e, annealed to end_e."""
    rungs = np.linspace(args.start_e, args.min_start_e, max(1, args.num_nature_actors))
    start = rungs[place % len(rungs)]
    return float(start + min(1.0, global_step / args.exploration_steps) * (args.end_e - start))


def actor(args: Args, index: int, prior: str | None, replay, store: SharedArrays, weights: SharedArrays):
    """Alg. 1.1 (while its role is None) and Alg. 1.2: plays for ever, yields after each block delivered to the replay."""
    head, role, global_step = replay.join(index)
    env, rng = make_env(args.env_id), np.random.default_rng([args.seed, index, head, global_step])
    num_actions, fire = int(env.single_action_space.n), fire_action(env)
    q_network, prior_network = QNetwork(num_actions), QNetwork(num_actions)
    if prior is not None:
        prior_network.load_state_dict(load_checkpoint(prior, args.env_id, q_network)["network"])
    buffer, version = LocalBuffer(args, store, index, head), newest_weights(weights, q_network, -1)
    states, info = env.reset(seed=int(rng.integers(2**31)))
    life_lost = last = False
    age = length = game_return = 0
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
            termination, lives = bool(terminations[0]), int(info["lives"][0])
            buffer.append(states[0], action, np.clip(rewards[0], -1, 1), termination, last, min(age, STACK))
            age = 0 if last else age + 1  # the step after a game's last observation returns the next game's first
            length, game_return = length + (not last), game_return + rewards[0]
            life_lost = termination and lives > 0
            last = not last and (termination and lives == 0 or bool(truncations[0]))
            if last:
                buffer.episodes.append((float(game_return), length))
                length = game_return = 0
            states = next_states
        version = newest_weights(weights, q_network, version)
        role, global_step = buffer.deliver(replay, q_network)
        yield


def evaluator(args: Args, replay, weights: SharedArrays):
    """Deviation 3: full greedy games with the learner's newest weights; yields after each look at the step count."""
    env = make_env(args.env_id)
    q_network, version, due = QNetwork(int(env.single_action_space.n)), -1, args.eval_frequency
    env.close()
    while True:
        global_step = replay.step()
        if global_step >= due:
            version = newest_weights(weights, q_network, version)
            replay.evaluated(global_step, play_games(args.env_id, q_network, args.eval_episodes, args.seed + global_step))
            due = (replay.step() // args.eval_frequency + 1) * args.eval_frequency  # a late round is skipped
        yield


# ------------------------------------------------------------------------------------------------------ Checkpoints
def save_checkpoint(path: Path, checkpoint: dict) -> None:
    """Writes under a temporary name, then renames: whoever looks finds the old file or the new one, whole."""
    temporary = path.with_suffix(".tmp")
    with open(temporary, "wb") as file:
        torch.save(checkpoint, file)
        file.flush()
        os.fsync(file.fileno())
    os.replace(temporary, path)


def load_checkpoint(path: str | Path, env_id: str, network: nn.Module) -> dict:
    """Reads a prior or a saved agent for env_id whose `network` fits; exits with one line on any other file."""
    try:
        checkpoint = torch.load(path, map_location="cpu", weights_only=True)  # code in a pickle never runs
    except Exception as error:
        sys.exit(f"error: {path} is no readable checkpoint ({type(error).__name__}); "
                 "train it again with pretrain_priors.py")
    if not isinstance(checkpoint, dict) or checkpoint.get("format") != CHECKPOINT_FORMAT:
        sys.exit(f"error: {path} is no checkpoint of format {CHECKPOINT_FORMAT}; train it again with pretrain_priors.py")
    if checkpoint.get("env_id") != env_id:
        sys.exit(f"error: {path} is for {checkpoint.get('env_id')}, not for {env_id}; choose another --prior-dir")
    tensors, wanted = checkpoint.get("network"), network.state_dict()
    if not isinstance(tensors, dict) or {k: getattr(v, "shape", None) for k, v in tensors.items()} != {
            k: v.shape for k, v in wanted.items()}:
        sys.exit(f"error: {path} holds a network of another shape than {env_id} needs; train it again")
    if not isinstance(checkpoint.get("average_return"), float):
        sys.exit(f"error: {path} does not say its average_return; train it again with pretrain_priors.py")
    return checkpoint


def find_priors(args: Args, network: nn.Module) -> tuple[list[str], list[float]]:
    """The prior actors' checkpoint files, shared in turn, and their average returns (rbar)."""
    if args.num_prior_actors == 0:
        return [], []
    paths = sorted((Path(args.prior_dir) / args.env_id).glob("*.pt"))
    if not paths:
        sys.exit(f"error: no priors in {Path(args.prior_dir) / args.env_id}; train one with `python pretrain_priors.py "
                 f"--env-id {args.env_id}`, or run without by --num-prior-actors 0")
    averages = [load_checkpoint(path, args.env_id, network)["average_return"] for path in paths]
    turn = [i % len(paths) for i in range(args.num_prior_actors)]
    return [str(paths[i]) for i in turn], [averages[i] for i in turn]


# -------------------------------------------------------------------------------------------------- Learner (Alg. 3)
class DQN:
    """What learns: theta, theta-minus and the optimizer."""

    def __init__(self, args: Args, num_actions: int, device: torch.device):
        self.args, self.device, self.last_sync = args, device, 0
        self.network, self.target_network = QNetwork(num_actions), QNetwork(num_actions)
        self.target_network.load_state_dict(self.network.state_dict())
        for network in (self.network, self.target_network):
            network.to(device, memory_format=torch.channels_last)
        self.optimizer = torch.optim.Adam(self.network.parameters(), lr=args.learning_rate, fused=True)

    def update(self, batch, global_step: int) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        """One gradient step on a batch of numpy arrays; returns the TD errors (B,) and the metrics, on the device."""
        states, actions, returns, discounts, next_states, weights = (
            torch.from_numpy(array).to(self.device, non_blocking=True) for array in batch)
        if global_step // self.args.target_network_frequency > self.last_sync:
            self.last_sync = global_step // self.args.target_network_frequency
            self.target_network.load_state_dict(self.network.state_dict())  # theta-minus <- theta
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.args.bf16):
            loss, td_errors, q_values = double_q_loss(
                self.network, self.target_network, (states, actions, returns, discounts, next_states, weights))
        self.optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(self.network.parameters(), 10.0)
        self.optimizer.step()
        return td_errors, {"losses/td_loss": loss.detach(), "losses/q_values": q_values.mean()}

    def state(self) -> dict:
        """What a resume file holds beside the acting network."""
        return {"target": self.target_network.state_dict(), "optimizer": self.optimizer.state_dict()}

    def load(self, checkpoint: dict) -> None:
        """Goes on from a resume file."""
        self.network.load_state_dict(checkpoint["network"])
        self.target_network.load_state_dict(checkpoint["target"])
        self.optimizer.load_state_dict(checkpoint["optimizer"])
        self.last_sync = checkpoint["global_step"] // self.args.target_network_frequency


def learner(args: Args, agent: DQN, replay, store, weights, progress: dict, log, wait) -> None:
    """Alg. 3: samples, learns, refreshes priorities and publishes weights until the updates of all steps are done.

    log(news, updates, metrics) is called after every call to the replay; wait() when there is nothing to sample.
    """
    ids, priorities, metrics = np.zeros(0, np.int64), np.zeros(0), {}
    while True:
        batch_ids, batch_weights, news = replay.sample(ids, priorities)
        progress.update({key: news[key] for key in ("global_step", "prior_steps", "roles")})
        td_errors = []
        for ids_, weights_ in zip(batch_ids, batch_weights):
            td_error, metrics = agent.update(gather(store, ids_, args, weights_), news["global_step"])
            td_errors.append(td_error)
            progress["updates"] += 1
            if progress["updates"] % args.publish_frequency == 0:
                publish(weights, agent.network)
        ids, priorities = batch_ids.ravel(), np.zeros(0)
        if td_errors:  # the one place that waits for the device
            priorities = torch.cat(td_errors).abs().cpu().numpy()
            if not np.isfinite(priorities).all():
                sys.exit(f"error: the TD error is no longer finite, at update {progress['updates']:,}; "
                         "lower --learning-rate, or go on from the last checkpoint with --resume")
        log(news, metrics)
        if not td_errors:
            if news["global_step"] >= args.total_timesteps:
                return
            wait()


# -------------------------------------------------------------------------------------------------------- Processes
def die_with_learner(folder: str | None = None) -> None:
    """Ends this child as soon as the learner's process is gone, however it went; removes the run's socket folder."""
    def watch():
        connection.wait([mp.parent_process().sentinel])
        if folder is not None:
            for path in (Path(folder) / "replay", Path(folder)):
                path.unlink() if path.is_socket() else path.rmdir()
        os._exit(1)
    threading.Thread(target=watch, daemon=True).start()


def run_child(args: Args, index: int, prior: str | None, replay, store, weights) -> None:
    """The life of an actor's process, or, with index num_actors, of the evaluator's."""
    die_with_learner()
    torch.set_num_threads(1)
    name = f"actor {index}" if index < args.num_actors else "evaluator"
    try:
        if index == args.num_actors:
            for _ in evaluator(args, replay, weights):
                time.sleep(0.2)
        for _ in actor(args, index, prior, replay, store, weights):
            while not replay.may_insert(index):
                time.sleep(0.002)
    except (EOFError, ConnectionError):
        os._exit(0)  # the manager is gone: the learner says so
    except BaseException:
        replay.failed(name, traceback.format_exc())
        os._exit(1)


class Crew:
    """The child processes: the replay's manager, the actors and the evaluator."""

    def __init__(self, args: Args, priors: list[str], averages: list[float], store, weights, progress: dict):
        self.args, self.store, self.weights = args, store, weights
        self.priors = [None] * args.num_nature_actors + priors + [None]  # the evaluator comes last
        methods = mp.get_all_start_methods()
        self.context = mp.get_context("forkserver" if "forkserver" in methods else "spawn")
        if "forkserver" in methods:  # children then start in a tenth of a second, and share what is imported
            self.context.set_forkserver_preload(["torch", "torch.utils.tensorboard", "tyro", "imageio", "gymnasium",
                                                 "ale_py.vector_env"])
        self.deaths, self.processes, self.manager = [], [], None
        resource_tracker.ensure_running()  # before the mask, which it would lift
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})  # Ctrl-C is the learner's business alone
        self.folder = tempfile.mkdtemp(prefix="ca2e-", dir="/tmp")  # private; short, as socket paths must be
        self.manager = ReplayManager(address=f"{self.folder}/replay", ctx=self.context)
        self.manager.start(initializer=die_with_learner, initargs=(self.folder,))
        self.replay = self.manager.PrioritizedReplay(args, averages, progress)
        self.processes = [self.start(index) for index in range(args.num_actors + 1)]
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})

    def start(self, index: int):
        """Starts an actor, or the evaluator, in its own part of the replay."""
        process = self.context.Process(
            target=run_child, daemon=True,
            args=(self.args, index, self.priors[index], self.replay, self.store, self.weights))
        process.start()
        return process

    def restart_dead(self) -> int:
        """Starts again what died; returns the deaths so far. Three of one child within a minute end the run."""
        for index, process in enumerate(self.processes):
            if process.exitcode is None:
                continue
            self.deaths.append((index, time.time()))
            if sum(i == index and time.time() - t < 60 for i, t in self.deaths) >= 3:
                name = f"actor {index}" if index < self.args.num_actors else "the evaluator"
                sys.exit(f"error: {name} died three times within a minute (exit code {process.exitcode})")
            signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
            self.processes[index] = self.start(index)
            signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
        return len(self.deaths)

    def close(self) -> None:
        """Ends every child at once: none holds anything that a kill could harm."""
        children = mp.active_children()
        for child in children:
            child.kill()
        for child in children:
            child.join()
        for path in (Path(self.folder) / "replay", Path(self.folder)):
            path.unlink(missing_ok=True) if not path.is_dir() else path.rmdir()


# ------------------------------------------------------------------------------------------------------------- Main
class Log:
    """TensorBoard and the progress line; only the learner's process writes either."""

    def __init__(self, args: Args, run: Path, progress: dict):
        self.args, self.progress = args, progress
        self.writer = SummaryWriter(run, purge_step=progress["global_step"] + 1 if args.resume else None)
        self.writer.add_text("args", "\n".join(f"    {key} = {value}" for key, value in asdict(args).items()))
        self.start = self.shown = time.time()
        self.first = self.before = (progress["global_step"], progress["updates"])

    def __call__(self, news: dict, metrics: dict, deaths: int) -> None:
        """Writes the news of one call to the replay; every LOG_SECONDS also the losses, rates and progress line."""
        step, updates, now = self.progress["global_step"], self.progress["updates"], time.time()
        for name, text in news["tracebacks"]:
            print(f"\n{name} failed:\n{text}", file=sys.stderr, flush=True)
        for role, episodic_return, length in news["episodes"]:
            kind = "prior_" if role is None else ""
            self.writer.add_scalar(f"charts/{kind}episodic_return", episodic_return, step)
            self.writer.add_scalar(f"charts/{kind}episodic_length", length, step)
        for evaluated_step, returns in news["evaluations"]:
            self.progress["evaluations"].append(float(np.mean(returns)))
            self.writer.add_scalar("charts/eval_return", np.mean(returns), evaluated_step)
            self.writer.add_scalar("charts/eval_return_std", np.std(returns), evaluated_step)
        if now - self.shown < LOG_SECONDS:
            return
        seconds, self.shown = now - self.shown, now
        sps, ups = (step - self.before[0]) / seconds, (updates - self.before[1]) / seconds
        self.before = (step, updates)
        ratio = news["sampled"] / max(1, news["inserted"] - self.args.learning_starts)
        priors = [str(i) for i, role in enumerate(self.progress["roles"]) if role is None]
        scalars = {"charts/SPS": sps, "charts/updates_per_second": ups, "charts/samples_per_insert": ratio,
                   "charts/nature_steps": step - self.progress["prior_steps"],
                   "charts/prior_steps": self.progress["prior_steps"], "charts/acting_priors": len(priors),
                   "charts/restarts": deaths, **{name: value.item() for name, value in metrics.items()}}
        for name, value in scalars.items():
            self.writer.add_scalar(name, value, step)
        greedy = f"{self.progress['evaluations'][-1]:.1f}" if self.progress["evaluations"] else "none yet"
        left = (self.args.total_timesteps - step) / max(1e-9, (step - self.first[0]) / (now - self.start))
        print(f"step {step:,} of {self.args.total_timesteps:,} | {sps:.0f} steps/s | {ups:.0f} updates/s | "
              f"{max(0.0, ratio):.1f} samples/insert | greedy return {greedy} | "
              f"priors acting: {', '.join(priors) or 'none'} | {left / 60:.0f} min left", flush=True)


def check(args: Args) -> None:
    """Refuses settings that cannot work, each in one line."""
    errors = {
        "no actors: set --num-nature-actors or --num-prior-actors above 0": args.num_actors < 1,
        "--batch-size, --n-step and --local-buffer-size must be 1 or more":
            min(args.batch_size, args.n_step, args.local_buffer_size) < 1,
        "--samples-per-insert must be 0 (run free) or more": args.samples_per_insert < 0,
    }
    for message in (message for message, wrong in errors.items() if wrong):
        sys.exit(f"error: {message}")
    if args.batch_size > args.buffer_size:
        sys.exit(f"error: --batch-size {args.batch_size} is larger than --buffer-size {args.buffer_size}")
    least = args.num_actors * (2 * args.local_buffer_size + STACK + args.n_step)
    if args.part * args.num_actors < least - args.num_actors:
        sys.exit(f"error: {args.num_actors} actors with a --local-buffer-size of {args.local_buffer_size} need a "
                 f"--buffer-size and --total-timesteps of {least} at least")
    if args.learning_starts >= args.total_timesteps:
        sys.exit(f"error: --learning-starts {args.learning_starts} leaves nothing of --total-timesteps "
                 f"{args.total_timesteps} to learn from")
    needed = args.num_actors * args.part * (84 * 84 + 40) / 2**30
    whole = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    limit = Path("/sys/fs/cgroup/memory.max")  # a container's own
    if limit.exists() and limit.read_text().strip().isdigit():
        whole = min(whole, int(limit.read_text()) / 2**30)
    if needed > whole:
        sys.exit(f"error: a replay of {args.num_actors * args.part:,} transitions needs {needed:.1f} GiB, this machine "
                 f"has {whole:.1f}; lower --buffer-size to {int(args.buffer_size * 0.6 * whole / needed):,}")
    meminfo = Path("/proc/meminfo")
    if meminfo.exists():
        free = int(meminfo.read_text().split("MemAvailable:")[1].split()[0]) / 2**20
        if needed > free:
            print(f"warning: the replay grows to {needed:.1f} GiB as it fills, {free:.1f} are free now", file=sys.stderr)


def capture_video(env_id: str, q_network: QNetwork, path: Path, seed: int) -> None:
    """Writes a greedy game as a colour GIF: a second environment in colour, same seed and actions, runs in lockstep."""
    env, colour = make_env(env_id), make_env(env_id, grayscale=False)
    fire, frames, life_lost = fire_action(env), [], False
    states, info = env.reset(seed=seed)
    frames.append(colour.reset(seed=seed)[0][0, -1])
    while len(frames) < 10_000:  # 11 minutes of play
        with torch.inference_mode():
            action = fire if life_lost and fire is not None else int(q_network(torch.from_numpy(states)).argmax())
        states, _, terminations, truncations, info = env.step(np.array([action]))
        frames.append(colour.step(np.array([action]))[0][0, -1])
        life_lost = bool(terminations[0]) and info["lives"][0] > 0
        if (terminations[0] and info["lives"][0] == 0) or truncations[0]:
            break
    imageio.mimsave(path, frames[::2], duration=1000 / 7.5 / 2, loop=0)  # 7.5 frames a second, shown at twice the speed
    print(f"video: {path}", flush=True)


def main(args: Args) -> None:
    """Fig. 1: check, share, start the actors, learn, measure, save."""
    check(args)
    torch.manual_seed(args.seed)
    torch.backends.cudnn.deterministic = args.torch_deterministic
    torch.set_num_threads(max(1, torch.get_num_threads() // 2))  # the actors need the rest
    device = torch.device("cuda" if args.cuda and torch.cuda.is_available() else "cpu")
    env = make_env(args.env_id)
    num_actions = int(env.single_action_space.n)
    env.close()
    greedy_network = QNetwork(num_actions)  # what evaluation and video play with, on the CPU
    if args.evaluate:
        greedy_network.load_state_dict(load_checkpoint(args.evaluate, args.env_id, greedy_network)["network"])
        returns = play_games(args.env_id, greedy_network, 20, args.seed)
        print(f"{args.evaluate}: {returns.mean():.2f} +- {returns.std():.2f} over 20 greedy games")
        if args.capture_video:
            capture_video(args.env_id, greedy_network, Path(args.evaluate).with_suffix(".gif"), args.seed)
        return
    priors, averages = find_priors(args, greedy_network)
    agent = DQN(args, num_actions, device)
    progress = {"global_step": 0, "prior_steps": 0, "updates": 0, "evaluations": [],
                "roles": [*range(args.num_nature_actors), *[None] * args.num_prior_actors]}
    run = Path(args.resume or f"runs/{args.env_id.replace('/', '-')}__{ALGO}__{args.seed}__{int(time.time())}")
    if args.resume:
        checkpoint = load_checkpoint(run / "resume.pt", args.env_id, greedy_network)
        agent.load(checkpoint)
        progress.update({key: checkpoint[key] for key in progress})
        print(f"resumed {run} at step {progress['global_step']:,}; the replay is filled anew", flush=True)
    try:
        run.mkdir(parents=True, exist_ok=True)
        log = Log(args, run, progress)
    except OSError as error:
        sys.exit(f"error: cannot write to {run}: {error.strerror}; run where you may write")

    def save(name: str, average_return: float, episodes: int, **rest) -> None:
        network = {key: tensor.cpu() for key, tensor in agent.network.state_dict().items()}
        save_checkpoint(run / name, {"format": CHECKPOINT_FORMAT, "algo": ALGO, "env_id": args.env_id,
                                     "network": network, "average_return": average_return, "episodes": episodes,
                                     "global_step": progress["global_step"], **rest})

    def save_progress() -> None:
        newest = progress["evaluations"][-1] if progress["evaluations"] else -float("inf")
        save("resume.pt", newest, args.eval_episodes, **agent.state(), **{**progress, "args": asdict(args)})

    stop, saved = [], time.time()

    def after_call(news: dict, metrics: dict) -> None:
        nonlocal saved
        log(news, metrics, crew.restart_dead() if crew else 0)
        if stop:
            raise KeyboardInterrupt
        if time.time() - saved > SAVE_SECONDS:
            save_progress()
            saved = time.time()

    for signum in (signal.SIGINT, signal.SIGTERM):
        signal.signal(signum, lambda number, frame: stop.append(number))
    store = replay_arrays(args)
    weights, crew = shared_weights(agent.network), None
    publish(weights, agent.network)
    print(f"{run} | {args.num_nature_actors} nature and {args.num_prior_actors} prior actors, learner on {device}", flush=True)
    try:
        if args.sync:
            replay = PrioritizedReplay(args, averages, progress)
            actors = [actor(args, index, prior, replay, store, weights)
                      for index, prior in enumerate([None] * args.num_nature_actors + priors)]
            evaluations = evaluator(args, replay, weights)

            def wait():
                for index in range(args.num_actors):
                    if replay.may_insert(index):
                        next(actors[index])
                next(evaluations)
        else:
            crew = Crew(args, priors, averages, store, weights, progress)
            replay, wait = crew.replay, lambda: time.sleep(0.002)
        learner(args, agent, replay, store, weights, progress, after_call, wait)
    except KeyboardInterrupt:
        save_progress()
        print(f"\nstopped at step {progress['global_step']:,}; "
              f"go on with `python {Path(__file__).name} --resume {run}`", flush=True)
        sys.exit(128 + stop[0])
    except (EOFError, ConnectionError) as error:
        sys.exit(f"error: the replay's manager process died ({type(error).__name__}), out of memory perhaps; "
                 f"go on from the last checkpoint with --resume {run}")
    finally:
        if crew is not None:
            crew.close()
    save_progress()
    greedy_network.load_state_dict(agent.network.state_dict())
    returns = play_games(args.env_id, greedy_network, 20, args.seed)
    log.writer.add_scalar("charts/final_return", returns.mean(), progress["global_step"])
    log.writer.close()
    save("agent.pt", float(returns.mean()), 20)
    print(f"{run}/agent.pt: {returns.mean():.2f} +- {returns.std():.2f} over 20 greedy games", flush=True)
    if args.capture_video:
        capture_video(args.env_id, greedy_network, run / "agent.gif", args.seed)


if __name__ == "__main__":
    main(tyro.cli(Args))
