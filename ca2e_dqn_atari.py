# /// script
# requires-python = ">=3.11"
# dependencies = ["torch==2.13.0", "gymnasium[atari,mujoco]==1.4.0", "numpy==2.4.6", "tyro==1.0.17",
#   "tensorboard==2.21.0", "ale-py==0.12.1", "mujoco==4.0.0", "imageio==2.38.1"]
# ///
"""CA2E-DQN on Atari: "Compound Asynchronous Exploration and Exploitation" (Bai et al.), in one file.

    5 nature actors (explore) ---+  first priorities  +-------------------+  slots, weights  +---------+
    3 prior actors (exploit) ----+------------------> | PrioritizedReplay | ---------------> | learner |
       ^   each plays a game     |                    |  (in a manager's  | <--------------- | CUDA or |
       |                         |  frames, actions,  |      process)     |  new priorities  |   CPU   |
       |                         |  returns           +-------------------+                  +---------+
       |                         +----------------> `store`, shared memory --- batches -----> |    |
       +--- newest networks: `board`, shared memory; reward r: from evaluator, through replay ----+

    python ca2e_dqn_atari.py --env-id PongNoFrameskip-v4  # 10M steps; the paper's settings where it has any
    python ca2e_dqn_atari.py --env-id PongNoFrameskip-v4 --total-timesteps 300000 --buffer-size 300000 \
        --exploration-steps 50000 --end-e 0.02 --target-network-frequency 1000   # two cores: an hour

Read `actor` first: it is Alg. 1, with `epsilon_of`, `surpassed` and `evaluator`. Alg. 2: `n_step_return`,
`LocalBuffer`, `first_priorities`, `SumTree`, `PrioritizedReplay`. Alg. 3: `td_target`, `DQN`, `learner`.
Below "From here on no paper" are the helpers. "Deviation 4" and such point into a table of the README.
"""

import contextlib, copy, io, os, shutil, signal, sys, tempfile, threading, time, traceback
import multiprocessing as mp
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
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
STACK = 4  # frames in a state [paper, App. A]; fixed: make_atari and QNetwork do not read it
AVERAGING = 8e-4  # tau of the averaged network (at first larger), which is evaluated and saved (Deviation 3)
BATCHES_PER_CALL = 32  # the learner asks the manager for up to so many batches at once

# ------------------------------------------------------------------------------------------------------- Args
@dataclass
class Args:
    # Run
    seed: int = 1  # every actor derives its own from it
    torch_deterministic: bool = True  # deterministic cuDNN kernels
    cuda: bool = True  # learn on the GPU where there is one
    capture_video: bool = False  # write a GIF of a greedy game when the run, or --evaluate, ends
    resume: str = ""  # go on with this run, runs/<name>; its settings hold, but for flags given anew
    evaluate: str = ""  # play 20 greedy games with this agent.pt (or prior) and exit
    sync: bool = False  # all in one process, in turn: repeatable; breakpoint() works (in a loss: --no-cuda)
    env_id: str = "PongNoFrameskip-v4"  # the game, as gymnasium registers it [paper, App. B]
    total_timesteps: int = 10_000_000  # steps (of 4 frames) of all actors [paper, Fig. 2; Deviation 19]
    # DQN
    learning_rate: float = 1e-4  # of Adam [paper, App. A]
    buffer_size: int = 1_000_000  # transitions in the replay [paper, App. A]
    gamma: float = 0.99  # discount factor [DQN; the paper is silent]
    n_step: int = 3  # steps of the multi-step return [Rainbow; the paper is silent]
    target_network_frequency: int = 10_000  # inserted transitions between the target's updates [App. A]
    batch_size: int = 32  # transitions in an update [paper, App. A]
    learning_starts: int = 10_000  # inserted before the first update, and after --resume [ours: paper silent]
    start_e: float = 1.0  # first epsilon of the first nature actor [ours: the paper says "different values"]
    min_start_e: float = 0.2  # first epsilon of the last nature actor; the others lie evenly between [ours]
    end_e: float = 0.1  # epsilon of every nature actor from exploration_steps on [paper, App. A]
    exploration_steps: int = 1_000_000  # steps of all actors over which epsilon falls [paper, App. A]
    # CA2E
    num_nature_actors: int = 5  # actors that explore, epsilon-greedy, with the learner's network [paper, 5.1]
    num_prior_actors: int = 3  # actors that exploit trained baseline agents [paper, 5.1]
    prior_dir: str = "priors"  # actors take its <env_id>/*.pt by name, in turn; those left over do not play
    prior_epsilon: float = 0.01  # epsilon of the prior actors [ours: Deviation 5]
    retire_ratio: float = 1.05  # alpha: 1.05 asks for rbar + 5 % of abs(rbar) [ours: Deviation 1]
    retire_patience: int = 3  # "several times": in this many evaluations in a row [ours: Deviation 2]
    local_buffer_size: int = 50  # steps an actor delivers at once [Ape-X]; Alg. 2's B; in shapes B is a batch
    per_alpha: float = 0.6  # how far priorities skew the sampling, 0 is uniform [Ape-X]
    per_beta: float = 0.4  # how far importance weights correct it, 1 is fully [Ape-X]
    samples_per_insert: float = 8.0  # draws per inserted step; 0: no limit [paper silent; DQN: 32 per 4 = 8]
    publish_frequency: int = 25  # updates between publications of the network [ours: the paper is silent]
    eval_frequency: int = 25_000  # agent steps between greedy evaluations [ours: Deviation 3]
    eval_episodes: int = 5  # games of an evaluation, at epsilon 0.001 [ours: Deviation 3]

    num_actors = property(lambda self: self.num_nature_actors + self.num_prior_actors)
    capacity = property(lambda self: min(self.buffer_size, self.total_timesteps))  # slots of all
    ring_size = property(lambda self: self.capacity // self.num_actors)  # slots that an actor owns
    block_size = property(lambda self: self.local_buffer_size + self.n_step + 1)  # most that a block fills

# ------------------------------------------------------------------------------------------------ Environment
def make_atari(env_id: str, num_envs: int = 1) -> AtariVectorEnv:
    """States (num_envs, 4, 84, 84). First up to 29 frames, no-ops and FIRE [App. A: 30]; an action lasts 4.

    `terminated`: a life is lost and some are left (Deviation 18; the game may wait for FIRE); or the game is
    over, with none left. The step after its end ignores its action and returns the next game's start.
    """
    gym.register_envs(ale_py)
    spec = gym.registry.get(env_id)
    is_atari = spec is not None and spec.entry_point == "ale_py.env:AtariEnv"
    every_frame = "NoFrameskip" in env_id or env_id.startswith("ALE/")  # other ids skip frames themselves
    if not (is_atari and every_frame) or "Adventure" in env_id:  # Adventure ends with lives left
        sys.exit(f"error: cannot play {env_id}; ids look like PongNoFrameskip-v4 or ALE/Pong-v5")
    env = AtariVectorEnv(spec.kwargs["game"], num_envs, reward_clipping=False, life_loss_info=True,
                         num_threads=1, repeat_action_probability=spec.kwargs["repeat_action_probability"])
    buttons, fire = list(env.ale.get_action_set()), ale_py.Action.FIRE
    env.fire = buttons.index(fire if fire in buttons else ale_py.Action.NOOP)
    return env

# ------------------------------------------------------------------------------------------ Networks and loss
class QNetwork(nn.Module):
    """q(s, .) of App. A: 3 convolutions, 512 hidden units with layer norm, one linear output per action."""
    def __init__(self, env):
        super().__init__()
        self.network = nn.Sequential(
            nn.Conv2d(4, 32, 8, stride=4), nn.ReLU(),
            nn.Conv2d(32, 64, 4, stride=2), nn.ReLU(),
            nn.Conv2d(64, 64, 3, stride=1), nn.ReLU(),
            nn.Flatten(), nn.Linear(3136, 512), nn.LayerNorm(512), nn.ReLU(),
            nn.Linear(512, int(env.single_action_space.n)))

    def forward(self, states: torch.Tensor) -> torch.Tensor:
        """states (B, 4, 84, 84) uint8 -> q-values (B, num_actions)."""
        return self.network(states.contiguous(memory_format=torch.channels_last) / 255.0)  # fastest on a CPU


@torch.no_grad()
def td_target(q_network, target_network, returns, discounts, next_states) -> torch.Tensor:
    """The double-DQN target of section 5.1: returns, discounts (B,), next_states (B, 4, 84, 84) -> (B,)."""
    best_actions = q_network(next_states).argmax(1, keepdim=True)  # argmax_a q(s_{t+n}, a; theta)  (B, 1)
    next_q = target_network(next_states).gather(1, best_actions).squeeze(1)  # q(s_{t+n}, ...; theta-)  (B,)
    return returns + discounts * next_q  # G_t + gamma^n q(...); gamma^k in a short window  (B,)


@torch.inference_mode()
def first_priorities(q_network, states, actions, returns, discounts, k) -> np.ndarray:
    """Deviation 4, as Ape-X: abs(TD error) (m,) of the first m of L states, by the online network alone."""
    q_values, t = q_network(torch.from_numpy(states)).numpy(), np.arange(len(actions))
    targets = returns + discounts * q_values[t + k].max(1)  # G_t + gamma^k max_a q(s_{t+k}, a)  (m,)
    return np.abs(targets - q_values[t, actions])


@torch.no_grad()
def soft_update(target: nn.Module, source: nn.Module, tau: float) -> None:
    """target <- (1 - tau) target + tau source, each parameter; no buffers (of a BatchNorm, say)."""
    torch._foreach_lerp_([*target.parameters()], [*source.parameters()], tau)  # one call for all: fastest

# ------------------------------------------------------------------------------ Actors and evaluator (Alg. 1)
def epsilon_of(index: int, global_step: int, args: Args) -> float:
    """Epsilon of an actor, annealed on all steps; a retired prior's: from min_start_e (Deviation 6)."""
    share = 1.0 if index >= args.num_nature_actors else index / max(1, args.num_nature_actors - 1)
    start = args.start_e + share * (args.min_start_e - args.start_e)
    return start + min(1.0, global_step / args.exploration_steps) * (args.end_e - start)


def surpassed(evaluations: list[float], rbar: float, ratio: float, patience: int) -> bool:
    """Alg. 1.1, "if several times r >= alpha rbar": was it so `patience` times in a row, ever? Stays True."""
    threshold = rbar + (ratio - 1) * abs(rbar)  # Deviation 1: rbar may be negative
    high = [r >= threshold for r in evaluations]
    return any(all(high[i : i + patience]) for i in range(len(high) - patience + 1))


def actor(args: Args, index: int, prior: str | None, replay, store: np.ndarray, board: np.void):
    """Alg. 1.1 (with a prior's file), 1.2 (without): a generator; yields the global step before a block."""
    first_count, global_step, evaluations = replay.join(index)
    env, rng = make_atari(args.env_id), np.random.default_rng([args.seed, index, first_count, global_step])
    q_network, prior_network = QNetwork(env), QNetwork(env)  # the learner's (for all priorities); the prior's
    if prior:  # "given the baseline average reward rbar of current prior actor"; fills prior_network
        rbar = load(prior, args.env_id, network=prior_network)["average_return"]
    buffer, version = LocalBuffer(args, store, index, first_count), -1
    states, _ = env.reset(seed=int(rng.integers(2**31)))
    life_lost, episode_step, episodic_return = False, 0, 0.0
    while True:
        yield global_step  # goes on once the learner has caught up: see `allowed_step`
        version = receive(board, "newest", q_network, version)  # "periodically receive network parameters"
        is_prior = bool(prior) and not surpassed(evaluations, rbar, args.retire_ratio, args.retire_patience)
        policy = prior_network if is_prior else q_network  # retired: "replace ... with a new nature actor"
        epsilon = args.prior_epsilon if is_prior else epsilon_of(index, global_step, args)
        while len(buffer.steps) < args.local_buffer_size + args.n_step:  # a block, and the n that wait
            if life_lost:
                action = env.fire  # else a greedy agent waits for the next ball for ever
            elif rng.random() < epsilon:
                action = int(rng.integers(env.single_action_space.n))
            else:
                with torch.inference_mode():
                    action = int(policy(torch.from_numpy(states)).argmax())  # a_t = pi(s_t)
            next_states, rewards, terminations, truncations, info = env.step(np.array([action]))
            terminated = bool(terminations[0])  # a life is lost, or the game
            buffer.append(states[0], action, np.clip(rewards[0], -1, 1), terminated, episode_step)
            episode_step, episodic_return = episode_step + 1, episodic_return + float(rewards[0])
            over = bool(terminated and info["lives"][0] == 0 or truncations[0])
            life_lost = terminated and not over
            if over:
                buffer.append(next_states[0], action, 0.0, False, episode_step, final=True)  # s_{t+1}
                buffer.episodes.append((episodic_return, episode_step))
                episode_step, episodic_return = 0, 0.0
                next_states = env.step(np.array([0]))[0]  # the action is ignored: the next game's first state
            states = next_states
        global_step, evaluations = buffer.deliver(replay, q_network, is_prior)  # "receive ... reward r"


def play_atari(env_id: str, q_network: QNetwork, games: int, seed: int, film: list | None = None):
    """Unclipped returns (games,) of full games, greedy but for an epsilon of 0.001; film takes the first."""
    env, rng = make_atari(env_id, games), np.random.default_rng(seed)
    states, _ = env.reset(seed=seed)
    returns, playing, life_lost = np.zeros(games), np.ones(games, bool), np.zeros(games, bool)
    while playing.any():
        if film is not None and playing[0]:
            film.append(states[0, -1].copy())  # a view keeps the whole array
        actions = rng.integers(env.single_action_space.n, size=games)
        greedy = playing & (rng.random(games) >= 0.001)
        with torch.inference_mode():
            actions[greedy] = q_network(torch.from_numpy(states[greedy])).argmax(1).numpy()
        actions[life_lost] = env.fire
        states, rewards, terminations, truncations, info = env.step(actions)
        returns += rewards * playing
        life_lost = terminations & (info["lives"] > 0)
        playing &= ~(terminations & ~life_lost | truncations)
    return returns


def evaluator(args: Args, index: int, prior: None, replay, store: np.ndarray, board: np.void):
    """Measures the average reward r of Alg. 1.1 (Deviation 3); run like an actor, it stores nothing."""
    network, last = QNetwork(make_atari(args.env_id)), int(board["global_step"])
    while True:
        step = int(board["global_step"])
        if step // args.eval_frequency > last // args.eval_frequency:
            receive(board, "average", network, -1)
            returns = play_atari(args.env_id, network, args.eval_episodes, args.seed + step)
            replay.report("evaluation", step, returns)
            last = int(board["global_step"])  # rounds that came due meanwhile are skipped
        yield 0  # no rate limit holds it

# ------------------------------------------------------------------------------- N-step local buffer (Alg. 2)
def n_step_return(rewards: list[float], terminations: list[bool], gamma: float) -> tuple[float, float, int]:
    """G_t, the discount of q(s_{t+k}), and k, of a window: n steps, or fewer where a life or game ends.

    rewards 1 2 3, gamma 0.9:                        1 + 0.9 * 2 + 0.81 * 3, 0.9^3, 3
    the same, terminated in the second step:         1 + 0.9 * 2,            0,     2
    rewards 1 2, since the game was then truncated:  1 + 0.9 * 2,            0.9^2, 2
    """
    total, discount, k = 0.0, 1.0, 0
    for reward, terminated in zip(rewards, terminations):
        total, discount, k = total + discount * reward, discount * gamma, k + 1  # sum_i gamma^i R_{t+i+1}
        if terminated:
            return total, 0.0, k  # nothing follows a termination (Deviation 12)
    return total, discount, k


class LocalBuffer:
    """LocalBuffer of Alg. 2: collects an actor's steps and delivers a block at once, with priorities; each
    step's frame goes into the store right away, as record number `count` of the actor's own ring of slots."""
    def __init__(self, args: Args, store: np.ndarray, index: int, first_count: int):
        self.args, self.store, self.index, self.count = args, store, index, first_count
        self.steps, self.episodes = [], []  # not delivered yet; an episode is (return, length)

    def append(self, state, action, reward, terminated: bool, episode_step: int, final: bool = False) -> None:
        """Alg. 1, "store (s_t, a_t, r_{t+1}, s_{t+1})"; s_{t+1} comes next; final: no step, a state alone."""
        record = self.store[self.index * self.args.ring_size + self.count % self.args.ring_size]
        record["count"] = self.count  # first: a reader sees by it that the rest is being overwritten
        record["frame"], record["action"], record["episode_step"] = state[-1], action, episode_step
        self.steps.append((state, action, reward, terminated, final))
        self.count += 1

    def deliver(self, replay, network, is_prior: bool) -> tuple[int, list[float]]:
        """Alg. 2: multi-step transitions, "calculate priorities", "add ... (tau, p) to Replay Memory"."""
        n, gamma, ring_size, store = self.args.n_step, self.args.gamma, self.args.ring_size, self.store
        m = len(self.steps) - n  # the newest n wait: their windows may be open
        states, actions, rewards, terminations, final = zip(*self.steps)
        ends = [next((i for i in range(t, t + n) if final[i]), t + n) for t in range(m)]  # final, or n on
        windows = [n_step_return(rewards[t:end], terminations[t:end], gamma) for t, end in enumerate(ends)]
        returns, discounts, k = map(np.array, zip(*windows))
        priorities = first_priorities(network, np.array(states), np.array(actions[:m]), returns, discounts, k)
        counts = self.count - len(self.steps) + np.arange(m)
        slots = self.index * ring_size + counts % ring_size
        store["return"][slots], store["discount"][slots], store["k"][slots] = returns, discounts, k
        real = ~np.array(final[:m])  # a final state is no transition
        episodes, self.episodes, self.steps = self.episodes, [], self.steps[m:]
        return replay.add(self.index, self.count, counts[real], priorities[real], is_prior, episodes)

# -------------------------------------------------------------------------- Prioritized replay (Alg. 2 and 3)
class SumTree:
    """A binary tree over priorities whose inner nodes hold the sum of their children; methods take arrays."""
    def __init__(self, capacity: int):
        self.depth = (capacity - 1).bit_length()  # steps from the root, node 1, to a leaf
        self.leaves, self.nodes = 1 << self.depth, np.zeros(2 << self.depth)  # slot i is node leaves + i

    def set(self, slots: np.ndarray, priorities: np.ndarray | float) -> None:
        """Replaces the priorities of slots; where a slot comes twice, the last one counts."""
        nodes = slots + self.leaves
        self.nodes[nodes] = priorities
        for _ in range(self.depth):
            nodes = nodes >> 1
            self.nodes[nodes] = self.nodes[2 * nodes] + self.nodes[2 * nodes + 1]

    def find(self, values: np.ndarray) -> np.ndarray:
        """The slots at which the running sum of priorities first exceeds values, each within [0, total)."""
        nodes, values = np.ones(len(values), np.int64), values.copy()
        for _ in range(self.depth):
            nodes = 2 * nodes
            left_sums = self.nodes[nodes]
            go_right = (values >= left_sums) & (self.nodes[nodes + 1] > 0)  # never into an empty branch
            values -= left_sums * go_right
            nodes += go_right
        return nodes - self.leaves


def importance_weights(priorities: np.ndarray, beta: float) -> np.ndarray:
    """(n, B) p^alpha, from the tree -> (n, B) (N P(i))^-beta, each batch's largest scaled to 1 [PER, 3.4]."""
    return (priorities / priorities.min(axis=-1, keepdims=True)) ** -beta  # N and the sum in P(i) cancel


def batches_due(inserted: int, sampled: int, args: Args) -> int:
    """The rate limit on the learner (Deviation 22): batches for this call, some 1/4 of the replay at most."""
    if inserted < args.learning_starts:
        return 0
    most = min(BATCHES_PER_CALL, 1 + min(inserted, args.capacity) // (4 * args.batch_size))
    due = (args.samples_per_insert * (inserted - args.learning_starts) - sampled) // args.batch_size
    return most if args.samples_per_insert == 0 else int(min(most, max(0, due)))


def allowed_step(start_step: int, sampled: int, args: Args) -> int:
    """The rate limit for actors: the last step at which a block may begin. Without slack, a deadlock."""
    if args.samples_per_insert == 0:
        return args.total_timesteps - 1
    slack = args.samples_per_insert * args.local_buffer_size + BATCHES_PER_CALL * args.batch_size
    due = args.learning_starts + (sampled + slack) / args.samples_per_insert
    return min(start_step + int(due), args.total_timesteps - 1)


class PrioritizedReplay:
    """The Replay Memory's index, in a manager (debug it with --sync); frames and returns lie in the store."""
    def __init__(self, args: Args, progress: dict):
        self.args, self.progress, self.lock = args, progress, threading.Lock()  # a thread for each client
        self.tree, self.start_step = SumTree(args.capacity), progress["global_step"]
        self.counts = np.full(args.capacity, -1)  # which record is in a slot; -1: none to sample
        self.next_counts, self.sampled, self.events = [0] * args.num_actors, 0, []
        self.rng = np.random.default_rng([args.seed, self.start_step])

    def join(self, index: int) -> tuple[int, int, list]:
        """An actor starts, past what a dead one may have half written: (first count, step, evaluations)."""
        with self.lock:
            self._make_room(index, self.next_counts[index] + self.args.block_size)
            return self.next_counts[index], self.progress["global_step"], self.progress["evaluations"]

    def add(self, index: int, next_count: int, counts, priorities, is_prior, episodes) -> tuple[int, list]:
        """Alg. 2, an actor's block: counts, priorities (m,), its next count -> global step, evaluations."""
        with self.lock:
            slots = index * self.args.ring_size + counts % self.args.ring_size
            self.counts[slots] = counts
            self.tree.set(slots, (priorities + 1e-6) ** self.args.per_alpha)
            self._make_room(index, max(next_count, self.next_counts[index]))  # a successor may have joined
            self.progress["global_step"] += len(counts)
            self.progress["prior_steps"] += len(counts) * is_prior
            self.events += [("episode", is_prior, *episode) for episode in episodes]
            return self.progress["global_step"], self.progress["evaluations"]

    def sample(self, slots, counts, priorities) -> tuple[np.ndarray, np.ndarray, np.ndarray, dict, list]:
        """Alg. 3: last slots, counts, priorities (m,) -> slots, counts, weights (n, B); progress, events."""
        with self.lock:
            current = self.counts[slots] == counts  # false: overwritten since the last call
            self.tree.set(slots[current], (priorities[current] + 1e-6) ** self.args.per_alpha)
            inserted, size = self.progress["global_step"] - self.start_step, self.args.batch_size
            n = batches_due(inserted, self.sampled, self.args) if self.tree.nodes[1] > 0 else 0  # empty
            strata = (np.arange(size) + self.rng.random((n, size))) / size  # a draw from each [PER, B.2.1]
            slots = self.tree.find((strata * self.tree.nodes[1]).ravel()).reshape(n, size)
            weights = importance_weights(self.tree.nodes[self.tree.leaves + slots], self.args.per_beta)
            self.sampled += slots.size
            events, self.events = self.events, []
            return slots, self.counts[slots], weights.astype(np.float32), dict(self.progress), events

    def _make_room(self, index: int, next_count: int) -> None:
        """Alg. 3, "periodically remove old experience", from the slots of a next block; sets next_counts."""
        ahead = next_count + np.arange(self.args.block_size + STACK - 1)  # states begin STACK - 1 earlier
        slots = index * self.args.ring_size + ahead % self.args.ring_size
        self.tree.set(slots, 0.0)
        self.counts[slots], self.next_counts[index] = -1, next_count

    def report(self, kind: str, *event) -> None:
        """To the learner's process: ("evaluation", global step, returns) or ("failure", who, traceback)."""
        with self.lock:
            self.events.append((kind, *event))
            if kind == "evaluation":
                self.progress["evaluations"].append(float(event[1].mean()))

# ------------------------------------------------------------------------------------------- Learner (Alg. 3)
def gather(store: np.ndarray, slots, counts, weights, args: Args) -> tuple[np.ndarray, ...]:
    """(B,) slots, counts, weights -> (B, ...) states, actions, returns, discounts, next_states, weights."""
    ring = slots // args.ring_size * args.ring_size  # its actor's first slot
    def stack_frames(counts):  # STACK records up to each, zeros before its game's first  (B, STACK, ...)
        back = np.arange(STACK)[::-1]
        frames = store["frame"][ring[..., None] + (counts[..., None] - back) % args.ring_size]
        frames[back > store["episode_step"][ring + counts % args.ring_size][..., None]] = 0
        return frames
    columns = (stack_frames(counts), store["action"][slots], store["return"][slots], store["discount"][slots],
               stack_frames(counts + store["k"][slots]))
    oldest = counts - np.minimum(store["episode_step"][slots], STACK - 1)  # the frame overwritten first
    whole = store["count"][ring + oldest % args.ring_size] == oldest  # checked after the copy; else weight 0
    return *columns, np.where(whole, weights, np.float32(0))


class DQN:
    """What learns: theta (online), theta-minus (target), and an average of theta, evaluated and saved."""
    def __init__(self, args: Args, env, device: torch.device, cores: int = 1):
        self.args, self.device, self.updates, self.copies = args, device, 0, float("inf")
        self.online = QNetwork(env).to(device, memory_format=torch.channels_last)
        self.target, self.average = copy.deepcopy(self.online), copy.deepcopy(self.online)
        self.theta = list(self.online.parameters())
        self.adam = torch.optim.Adam(self.theta, lr=args.learning_rate, fused=True, capturable=True)
        self.learn = Recorded(self.learn) if device.type == "cuda" else self.learn
        self.pool = ThreadPoolExecutor(cores) if cores > 1 and device.type == "cpu" else None
        self.parts = dict(network=self.average, online=self.online, target=self.target, optimizer=self.adam)

    def update(self, batch, global_step: int) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        """Alg. 3, "learn and update the network parameters": TD errors (B,), metrics, still on the device."""
        copies = global_step // self.args.target_network_frequency  # due by now
        if copies > self.copies:  # false at the first update (it is inf): a resumed target is kept
            soft_update(self.target, self.online, tau=1.0)  # theta-minus <- theta
        self.copies = copies
        td_errors, loss, q_value = self.learn(batch)
        self.updates += 1
        soft_update(self.average, self.online, tau=max(AVERAGING, 10 / (10 + self.updates)))  # fast at first
        return td_errors, {"losses/td_loss": loss, "losses/q_values": q_value}

    def learn(self, batch) -> tuple[torch.Tensor, ...]:
        """A step of Adam: TD errors (B,), loss, mean q. A GPU records it: an `if` is decided once."""
        loss, td_errors, q_values = backward(self.loss, batch, self.theta, self.pool)  # sets .grad
        nn.utils.clip_grad_norm_(self.theta, 10.0)  # Deviation 21
        self.adam.step()
        return td_errors, loss, q_values.mean()

    def loss(self, states, actions, returns, discounts, next_states, weights):
        """The loss of section 5.1 with importance weights, a scalar; the TD errors (B,); q(s_t, a_t) (B,)."""
        target = td_target(self.online, self.target, returns, discounts, next_states)  # (B,)
        q_values = self.online(states).gather(1, actions[:, None]).squeeze(1)  # q(s_t, a_t; theta)  (B,)
        td_errors = target - q_values
        loss = (weights * 0.5 * td_errors.square()).sum() / self.args.batch_size  # no .mean(): see `backward`
        return loss, td_errors.detach(), q_values.detach()


def learner(args: Args, agent, replay, store: np.ndarray, board: np.void):
    """Alg. 3, until all steps and updates due are done; yields progress, events, metrics, updates made."""
    slots, counts, priorities, metrics = np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0), {}
    start_step, sampled = int(board["global_step"]), 0
    while True:
        # "Sample a prioritized batch", many at once; "update priorities", of those of the call before
        slots, counts, weights, progress, events = replay.sample(slots.ravel(), counts.ravel(), priorities)
        sampled += slots.size
        board["global_step"] = progress["global_step"]
        board["allowed_step"] = allowed_step(start_step, sampled, args)
        td_errors = []
        for row in zip(slots, counts, weights):  # a batch; a GPU learns from it while the next is gathered
            columns = map(torch.from_numpy, gather(store, *row, args))
            batch = [column.to(agent.device, non_blocking=True) for column in columns]
            td_error, metrics = agent.update(batch, progress["global_step"])
            td_errors.append(td_error.view(args.batch_size))  # (B,); a (B, B) fails here
            if agent.updates % args.publish_frequency == 0:
                publish(board, agent.online, agent.average)
        priorities = torch.cat(td_errors).abs().cpu().numpy() if td_errors else np.zeros(0)
        if not (priorities < 1e18).all():  # so that its square is finite in float32
            sys.exit(f"error: the loss is not finite, by update {agent.updates:,}; lower the learning rate")
        yield progress, events, metrics, len(td_errors)
        if board["global_step"] >= args.total_timesteps and (not td_errors or args.samples_per_insert == 0):
            return

# ----------------------------- From here on no paper: shared memory, processes, checkpoints, log, main ------
CHECKPOINT_FORMAT, SAVE_SECONDS, LOG_SECONDS, KILLS_A_MINUTE = 2, 180, 10, 5  # so many deaths end the run
STOP_SIGNALS = {signal.SIGINT, signal.SIGTERM}
PRELOAD = ["torch", "torch.utils.tensorboard", "tyro", "imageio", "gymnasium", "ale_py.vector_env"]
MAY_BE_0 = "seed num_nature_actors num_prior_actors learning_starts".split()  # of the whole numbers
FRACTIONS = "gamma start_e min_start_e end_e prior_epsilon per_alpha per_beta".split()


def backward(loss_of, batch, parameters: list, pool) -> tuple[torch.Tensor, ...]:
    """Sets the gradients of loss_of(*batch), a chunk a thread: beside actors faster than PyTorch's own."""
    def gradients(*chunk):
        loss, *outputs = loss_of(*chunk)
        return loss.detach(), outputs, torch.autograd.grad(loss, parameters)

    chunks = (column.chunk(pool._max_workers if pool else 1) for column in batch)
    losses, outputs, grads = zip(*(pool.map if pool else map)(gradients, *chunks))
    for parameter, first, *others in zip(parameters, *grads):
        same = first.stride() == parameter.stride()  # else, without oneDNN, a fused Adam would mix them up
        parameter.grad = sum(others, first if same else torch.empty_like(parameter).copy_(first))
    return sum(losses), *map(torch.cat, zip(*outputs))


class Recorded:
    """On a GPU: records the kernels of function(batch) once, then launches them as one (a CUDA graph)."""
    def __init__(self, function):
        self.function, self.calls, self.graph = function, 0, torch.cuda.CUDAGraph()

    def __call__(self, batch) -> list[torch.Tensor]:
        self.calls += 1
        if self.calls < 4:  # what is made at its first use, such as Adam's moments, must be there
            return self.function(batch)
        if self.calls == 4:
            self.batch = [column.clone() for column in batch]
            with torch.cuda.graph(self.graph):  # from now on its Python does not run: debug with --no-cuda
                self.results = self.function(self.batch)
        torch._foreach_copy_(self.batch, batch)
        self.graph.replay()
        return [result.clone() for result in self.results]  # which the next call overwrites


def shared_memory(fields: list, length: int = 1) -> tuple[heap.Arena, np.dtype]:
    """Records, all 0: nameless, so that no crash leaves them behind, and committed as they are touched."""
    dtype, fd = np.dtype(fields, align=True), -1  # macOS: an Arena makes a file of its own
    if hasattr(os, "memfd_create"):
        os.ftruncate(fd := os.memfd_create("ca2e"), length * dtype.itemsize)
    return heap.Arena(length * dtype.itemsize, fd), dtype


def store_fields(env) -> list:
    """A record of the store: a step, with its state's newest frame. A new field: also `append`, `gather`."""
    frames, actions = env.single_observation_space, env.single_action_space
    return [("count", int), ("action", actions.dtype, actions.shape), ("return", np.float32), ("k", np.int32),
            ("discount", np.float32), ("episode_step", np.int32), ("frame", frames.dtype, frames.shape[1:])]


def publish(board: np.void, online: nn.Module, average: nn.Module) -> None:
    """Learner: replaces both networks' parameters (no buffers) on the board; its version is odd meanwhile."""
    vectors = [torch.cat([p.detach().flatten() for p in net.parameters()]) for net in (online, average)]
    vectors[1][0].item()  # waits for the GPU now: readers wait while the version is odd
    board["version"] += 1
    for name, vector in zip(("newest", "average"), vectors):
        torch.from_numpy(board[name]).copy_(vector)
    board["version"] += 1


def receive(board: np.void, name: str, network: nn.Module, version: int) -> int:
    """Copies the board's network of that name (of equal size) if newer than version; returns its version."""
    while (found := int(board["version"])) != version:
        vector = torch.from_numpy(board[name].copy()).view(sum(p.numel() for p in network.parameters()))
        if found % 2 == 0 and board["version"] == found:  # nobody wrote during the copy
            nn.utils.vector_to_parameters(vector, network.parameters())
            return found
        time.sleep(0.001)
    return version

# -------------------------------------------------------------------------------------------------- Processes
def end_with_learner(folder: str = "") -> None:
    """Ends this child as soon as the learner's process is gone, however it went; removes folder."""
    def watch():
        connection.wait([mp.parent_process().sentinel])
        shutil.rmtree(folder, ignore_errors=True)
        os._exit(1)
    threading.Thread(target=watch, daemon=True).start()


def run_child(work, args: Args, index: int, prior: str | None, replay, *memory) -> None:
    """The life of a child process: work is `actor` or `evaluator`."""
    end_with_learner()
    torch.set_num_threads(1)
    torch.manual_seed(args.seed * 1000 + index)  # or torch's random numbers would be the same in all actors
    store, (board,) = (np.frombuffer(arena.buffer, dtype) for arena, dtype in memory)
    os.nice(19 if work is actor and args.samples_per_insert > 0 else 0)  # a learner on the CPU goes first
    try:
        for step in work(args, index, prior, replay, store, board):
            time.sleep(0.01 if work is evaluator else 0)  # or it would poll the board without a pause
            while step > board["allowed_step"]:
                time.sleep(0.02)
    except BaseException:
        with contextlib.suppress(EOFError, ConnectionError):  # the manager is gone: the learner says so
            replay.report("failure", mp.current_process().name, traceback.format_exc())
        os._exit(0)  # not to be started again


def run_processes(args: Args, works: list, progress: dict, *memory):
    """Starts manager and works, each a process; yields the replay; at each call starts the killed again."""
    context = mp.get_context("forkserver" if sys.platform == "linux" else "spawn")
    context.set_forkserver_preload(PRELOAD)  # imported once: then a child starts in a tenth of a second
    resource_tracker.ensure_running()  # now, since its start would unblock the signals
    managers.BaseManager.register("PrioritizedReplay", PrioritizedReplay)
    manager, children, kills = managers.BaseManager(ctx=context), [None] * len(works), []
    signal.pthread_sigmask(signal.SIG_BLOCK, STOP_SIGNALS)  # children inherit it: Ctrl-C is the learner's
    manager.start(end_with_learner, (util.get_temp_dir(),))
    replay = manager.PrioritizedReplay(args, progress)
    while True:
        for index, (child, (work, prior)) in enumerate(zip(children, works)):
            if child and child.exitcode in (None, 0):  # it runs, or has reported a failure
                continue
            if child:
                if child.exitcode == 255:  # as all children seem to have, once the fork server is gone
                    sys.exit("error: the fork server died; go on with --resume")
                print(f"{child.name} died (status {child.exitcode}) and is started again", flush=True)
                kills.append(time.monotonic())
            children[index] = context.Process(target=run_child, name=f"{work.__name__} {index}", daemon=True,
                                              args=(work, args, index, prior, replay, *memory))
            children[index].start()
        signal.pthread_sigmask(signal.SIG_UNBLOCK, STOP_SIGNALS)
        if sum(time.monotonic() - when < 60 for when in kills) >= KILLS_A_MINUTE:
            sys.exit(f"error: {KILLS_A_MINUTE} children died within a minute; out of memory?")
        yield replay
        signal.pthread_sigmask(signal.SIG_BLOCK, STOP_SIGNALS)


def take_turns(args: Args, works: list, progress: dict, *memory):
    """--sync: works in this process; yields the replay, and at each call lets each do a block."""
    store, (board,) = (np.frombuffer(arena.buffer, dtype) for arena, dtype in memory)
    replay, steps = PrioritizedReplay(args, progress), [0] * len(works)
    turns = [work(args, index, prior, replay, store, board) for index, (work, prior) in enumerate(works)]
    while True:
        yield replay
        steps = [next(turn) if step <= board["allowed_step"] else step for turn, step in zip(turns, steps)]

# ------------------------------------------------------------------------------------------------ Checkpoints
def load(path: str | Path, env_id: str = "", **parts) -> dict:
    """Fills parts (networks, optimizer) from a prior or saved agent; exits with one line if it is unfit."""
    try:
        saved = torch.load(path, map_location="cpu", weights_only=True)  # code in a pickle never runs
        if saved["format"] > CHECKPOINT_FORMAT or env_id not in ("", saved["env_id"]):
            raise ValueError(f"it has format {saved['format']} and is for {saved['env_id']}")
        for name, part in parts.items():
            if name == "optimizer":  # its learning rates may have been given anew
                saved[name]["param_groups"] = part.state_dict()["param_groups"]
            part.load_state_dict(saved[name])
            for tensor, adam in getattr(part, "state", {}).items():  # of the optimizer: unchecked yet
                if len({(t.shape, t.stride()) for t in (tensor, adam["exp_avg"], adam["exp_avg_sq"])}) > 1:
                    raise ValueError("its optimizer has another shape")
        numbers = [*saved["network"].values(), torch.tensor(float(saved["average_return"]))]
        if not all(tensor.isfinite().all() for tensor in numbers):
            raise ValueError("its weights, or its average return, are not finite")
        return {"args": {}, **saved}  # a prior's file has none
    except Exception as error:  # a truncated, foreign or malicious file raises one of a dozen kinds
        sys.exit(f"error: {path} does not fit {env_id or 'this script'}: {error!r:.250}")


def save_agent(args: Args, path: Path, agent, progress: dict, final_return: float | None = None) -> None:
    """Writes what --resume, --evaluate and, as a prior, another run need, whole; -1e9: not evaluated yet."""
    if not all(tensor.isfinite().all() for tensor in agent.online.parameters()):
        sys.exit(f"error: the weights are not finite, by update {agent.updates:,}; they are not saved")
    average_return = (progress["evaluations"] or [-1e9])[-1] if final_return is None else final_return
    torch.save({**{name: part.state_dict() for name, part in agent.parts.items()}, **progress,
                "format": CHECKPOINT_FORMAT, "algo": ALGO, "env_id": args.env_id, "args": vars(args),
                "average_return": average_return, "updates": agent.updates}, whole := io.BytesIO())
    with open(path.with_suffix(".tmp"), "wb") as file:
        file.write(whole.getbuffer())
        file.flush()
        os.fsync(file.fileno())
    os.replace(path.with_suffix(".tmp"), path)


def find_priors(args: Args, network: nn.Module) -> list[tuple[str, float]]:
    """A file for each prior actor, in turn, and its rbar. A file: format, env_id, network, average_return."""
    folder = Path(args.prior_dir) / args.env_id
    files = sorted(map(str, folder.glob("*.pt")))
    if args.num_prior_actors and not files:
        sys.exit(f"error: no prior in {folder.resolve()}: see pretrain_priors.py, or --num-prior-actors 0")
    files = [files[i % len(files)] for i in range(args.num_prior_actors)]
    return [(file, load(file, args.env_id, network=network)["average_return"]) for file in files]

# ------------------------------------------------------------------------------------------------------- Main
class Log:
    """TensorBoard and the progress lines; only the learner's process writes them."""
    def __init__(self, args: Args, run: Path, progress: dict, priors: list[tuple[str, float]], updates: int):
        self.args, self.priors, self.acting = args, priors, []  # acting: as of the last call
        self.before = time.monotonic(), progress["global_step"], updates
        threading.excepthook = lambda _: None  # what fails in TensorBoard's thread, our next call raises too
        self.writer = SummaryWriter(run, purge_step=progress["global_step"] + 1 if args.resume else None)
        self.writer.add_text("args", "\n".join(f"    {name:28}{value}" for name, value in vars(args).items()))

    def __call__(self, progress: dict, events: list, metrics: dict, updates: int) -> None:
        """Logs what a round of `learner` yields: events at once, losses and rates every LOG_SECONDS."""
        write, step, evaluations = self.writer.add_scalar, progress["global_step"], progress["evaluations"]
        acting = [(path, rbar) for path, rbar in self.priors if not surpassed(
            evaluations, rbar, self.args.retire_ratio, self.args.retire_patience)]
        for event in events:
            match event:
                case "episode", is_prior, episodic_return, _:
                    write(f"{'priors' if is_prior else 'charts'}/episodic_return", episodic_return, step)
                case "evaluation", at_step, returns:
                    write("charts/eval_return", returns.mean(), at_step)
                    write("charts/eval_return_std", returns.std(), at_step)
                    write("priors/acting", len(acting), at_step)
                case "failure", who, trace:
                    sys.exit(f"{trace}error: {who} failed, as above; --sync runs all in one process")
        for path, rbar in sorted({*self.acting} - {*acting}):  # none at the first call, so --resume is silent
            print(f"prior {path} (rbar {rbar:.1f}) has retired by step {step:,}", flush=True)
        now, self.acting = (time.monotonic(), step, updates), acting
        seconds, steps, made = (new - old for new, old in zip(now, self.before))
        if seconds < LOG_SECONDS:
            return
        self.before, left = now, max(0, self.args.total_timesteps - step) * seconds / max(1, steps) / 60
        for name, value in {"charts/SPS": steps / seconds, "throughput/updates": updates,
                            "priors/steps": progress["prior_steps"], **metrics}.items():
            write(name, float(value), step)
        print(f"step {step:,} of {self.args.total_timesteps:,} | {steps / seconds:.0f} steps/s | "
              f"{made / seconds:.0f} updates/s | greedy return {(evaluations or ['none'])[-1]:.6} | "
              f"priors acting: {len(acting)} | {left:.0f} min left", flush=True)


def check(args: Args, slot_size: int) -> None:
    """Refuses settings that cannot work, each in one line."""
    for name, value in vars(args).items():
        kind = type(getattr(Args, name))
        low, high = int(kind is int and name not in MAY_BE_0), 1 if name in FRACTIONS else 2 * 10**9
        if kind in (int, float) and not (isinstance(value, (int, float)) and low <= value <= high):
            sys.exit(f"error: --{name.replace('_', '-')} must be from {low} to {high}, not {value}")
    least = max(args.batch_size, args.num_actors * (4 * args.block_size + STACK))
    own = [path.read_text().strip() for path in Path("/sys/fs/cgroup").glob("memory.max")]  # a container's
    memory = [os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"), *(int(n) for n in own if n.isdigit())]
    for wrong, message in (
        (args.num_actors == 0, "no actors: set --num-nature-actors or --num-prior-actors above 0"),
        (args.learning_starts >= args.total_timesteps, "--learning-starts must be below --total-timesteps"),
        (args.capacity < least, f"--buffer-size and --total-timesteps must be {least:,} or more here"),
        (args.capacity * slot_size > min(memory), "the replay exceeds the memory: lower --buffer-size"),
    ):
        if wrong:
            sys.exit(f"error: {message}")


def parse() -> Args:
    """The settings: those of the run of --resume, or the task of --evaluate, but for flags given anew."""
    args = tyro.cli(Args)
    if args.evaluate:
        args.env_id = load(args.evaluate)["env_id"]
    if args.resume:
        saved = {**load(f"{args.resume}/agent.pt")["args"], "resume": args.resume}
        args = Args(**{name: saved.get(name, value) for name, value in vars(args).items()})
    return tyro.cli(Args, default=args)


def measure(args: Args, path: str | Path, network: nn.Module, gif: Path) -> float:
    """Twenty greedy games of network, saved at path; prints and returns their average, films the first."""
    film, where = ([], f", the first into {gif}") if args.capture_video else (None, "")
    print(f"{path} plays 20 greedy games{where}", flush=True)
    returns = play_atari(args.env_id, network, 20, args.seed, film)
    print(f"{path}: {returns.mean():.2f} +- {returns.std():.2f} over 20 greedy games", flush=True)
    if film:
        imageio.mimsave(gif, film, duration=66, loop=0)
    return float(returns.mean())


def main(args: Args) -> None:
    """Fig. 1: check, share memory, start the actors, learn, save, measure."""
    cores = 1 if args.sync else min(4, torch.get_num_threads())
    torch.set_num_threads(1)
    torch.manual_seed(args.seed)
    torch.backends.cudnn.deterministic = args.torch_deterministic
    device = torch.device("cuda" if args.cuda and torch.cuda.is_available() else "cpu")
    env = make_atari(args.env_id)
    network = QNetwork(env)  # to play with
    if args.evaluate:
        load(args.evaluate, args.env_id, network=network)
        return measure(args, args.evaluate, network, Path(f"{Path(args.evaluate).stem}.gif"))
    check(args, np.dtype(store_fields(env), align=True).itemsize)
    priors, agent = find_priors(args, network), DQN(args, env, device, cores)
    run = Path(args.resume or f"runs/{args.env_id.replace('/', '-')}__{ALGO}__prior{args.num_prior_actors}"
                              f"__{args.seed}__{time.time_ns() // 10**6}")
    progress = {"global_step": 0, "prior_steps": 0, "evaluations": []}
    if args.resume:
        saved = load(run / "agent.pt", args.env_id, **agent.parts)
        progress, agent.updates = {name: saved[name] for name in progress}, saved["updates"]
    log, stop, saved_at = Log(args, run, progress, priors, agent.updates), [], -float("inf")
    for number in STOP_SIGNALS:
        signal.signal(number, lambda number, frame: stop.append(number))
    sizes = [sum(tensor.numel() for tensor in net.parameters()) for net in (agent.online, agent.average)]
    tempfile.tempdir = "/tmp"  # for the manager's socket, in a private folder: the path must be short
    memory = shared_memory(store_fields(env), args.capacity), shared_memory([
        ("version", int), ("global_step", int), ("allowed_step", int),
        ("newest", np.float32, sizes[:1]), ("average", np.float32, sizes[1:])])
    store, (board,) = (np.frombuffer(arena.buffer, dtype) for arena, dtype in memory)
    board["global_step"] = progress["global_step"]
    publish(board, agent.online, agent.average)
    print(f"{run} from step {board['global_step']:,} | learner on {device} | short runs: README", flush=True)
    works = [(actor, None)] * args.num_nature_actors + [(actor, f) for f, _ in priors] + [(evaluator, None)]
    try:
        workers = (take_turns if args.sync else run_processes)(args, works, progress, *memory)
        for progress, events, metrics, made in learner(args, agent, next(workers), store, board):
            log(progress, events, metrics, agent.updates)
            if stop or time.monotonic() - saved_at > SAVE_SECONDS:
                save_agent(args, run / "agent.pt", agent, progress)
                saved_at = time.monotonic()
            if stop:
                print(f"\nstopped and saved; go on with `python {sys.argv[0]} --resume {run}`")
                sys.exit(128 + stop[0])
            next(workers)  # starts the killed again; --sync: each does a block
            time.sleep(0.0 if made or args.sync else 0.01)  # the rate limit holds the learner
    except (EOFError, ConnectionError) as error:
        sys.exit(f"error: the manager, or who reads this output, is gone ({error!r:.40}); --resume {run}")
    finally:
        for child in mp.active_children():
            child.kill()  # none holds anything that a kill could harm
            child.join()
    for number in STOP_SIGNALS:
        signal.signal(number, signal.SIG_DFL)
    save_agent(args, run / "agent.pt", agent, progress)
    final_return = measure(args, run / "agent.pt", agent.average.cpu(), run / "agent.gif")
    save_agent(args, run / "agent.pt", agent, progress, final_return)
    log.writer.add_scalar("charts/final_return", final_return, progress["global_step"])
    log.writer.close()


if __name__ == "__main__":
    try:
        main(parse())
    except (OSError, KeyboardInterrupt) as end:  # a full disk, say; Ctrl-C before there is anything to save
        sys.exit(f"error: ended by {end!r}; what was saved before is intact")
