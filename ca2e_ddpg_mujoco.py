# /// script
# requires-python = ">=3.11"
# dependencies = ["torch==2.13.0", "gymnasium[atari,mujoco]==1.4.0", "numpy==2.4.6", "tyro==1.0.17",
#   "tensorboard==2.21.0", "ale-py==0.12.1", "mujoco==4.0.0", "imageio==2.38.1"]
# ///
"""CA2E-DDPG on MuJoCo: "Compound Asynchronous Exploration and Exploitation" (Bai et al.), in one file.

    5 nature actors (explore) ---+  first priorities  +-------------------+  slots, weights  +---------+
    3 prior actors (exploit) ----+------------------> | PrioritizedReplay | ---------------> | learner |
       ^   each moves a robot    |                    |  (in a manager's  | <--------------- | CUDA or |
       |                         |  states, actions,  |      process)     |  new priorities  |   CPU   |
       |                         |  returns           +-------------------+                  +---------+
       |                         +----------------> `store`, shared memory --- batches -----> |    |
       +--- newest networks: `board`, shared memory; reward r: from evaluator, through replay ----+

    python ca2e_ddpg_mujoco.py --env-id InvertedPendulum-v5 --total-timesteps 30000 --tau 0.01    # 1-4 min
    python ca2e_ddpg_mujoco.py --env-id Hopper-v5 --total-timesteps 300000 --tau 0.005 --critic-l2 0  # 25 min
    python ca2e_ddpg_mujoco.py --evaluate runs/<name>/agent.pt --capture-video

Read `actor` first: it is Alg. 1, with `noise_of`, `surpassed` and `evaluator`. Alg. 2: `n_step_return`,
`LocalBuffer`, `first_priorities`, `SumTree`, `PrioritizedReplay`. Alg. 3: `td_target`, `DDPG`, `learner`.
Below "From here on no paper" are the helpers. "Deviation 4" and such point into a table of the README.
"""

import contextlib, copy, io, math, os, shutil, signal, sys, tempfile, threading, time, traceback
import multiprocessing as mp
from dataclasses import dataclass
from multiprocessing import connection, heap, managers, resource_tracker, util
from pathlib import Path

import gymnasium as gym
import imageio
import numpy as np
import torch
import torch.nn as nn
import tyro
from gymnasium.wrappers import DtypeObservation, FrameStackObservation
from torch.utils.tensorboard import SummaryWriter

ALGO = "ca2e-ddpg"
STACK = 1  # observations in a state: one, where Atari takes 4 frames
AVERAGING = 5e-4  # tau of the averaged actor (at first larger), which is evaluated and saved (Deviation 3)
BATCHES_PER_CALL = 32  # the learner asks the manager for up to so many batches at once

# ------------------------------------------------------------------------------------------------------- Args
@dataclass
class Args:
    # Run
    seed: int = 1  # every actor derives its own from it
    cuda: bool = True  # learn on the GPU where there is one
    capture_video: bool = False  # write a GIF of a greedy episode when the run, or --evaluate, ends
    resume: str = ""  # go on with this run, runs/<name>; its settings hold, but for flags given anew
    evaluate: str = ""  # play 20 greedy episodes with this agent.pt (or prior) and exit
    sync: bool = False  # all in one process, in turn: repeatable; breakpoint() works (in a loss: --no-cuda)
    env_id: str = "Hopper-v5"  # the task, as gymnasium registers it [paper, App. B; Deviation 17]
    total_timesteps: int = 1_000_000  # steps of all actors together [paper, Fig. 3; Deviation 19]
    # DDPG
    actor_learning_rate: float = 1e-4  # of Adam, for the actor network [paper, App. A]
    critic_learning_rate: float = 1e-3  # of Adam, for the critic network [paper, App. A]
    critic_l2: float = 1e-2  # penalty on the critic's weights, as Adam's weight decay [App. A; Deviation 16]
    buffer_size: int = 1_000_000  # transitions in the replay [paper, App. A, for DQN]
    gamma: float = 0.99  # discount factor [DDPG; the paper is silent]
    n_step: int = 3  # steps of the multi-step return [ours: the paper is silent]
    tau: float = 1e-3  # how far an update moves the target networks [paper, App. A]
    batch_size: int = 128  # transitions in an update [paper, App. A]
    learning_starts: int = 5_000  # inserted before the first update, and after --resume [ours: paper silent]
    max_noise: float = 0.3  # sigma of the first nature actor; 1 is half of the actions' range [Deviation 21]
    min_noise: float = 0.05  # sigma of the last nature actor; the others lie evenly between [Deviation 21]
    # CA2E
    num_nature_actors: int = 5  # actors that explore [paper, 5.1], with noise on the learner's actions
    num_prior_actors: int = 3  # actors that exploit trained baseline agents [paper, 5.1]
    prior_dir: str = "priors"  # actors take its <env_id>/*.pt by name, in turn; those left over do not play
    prior_noise: float = 0.05  # sigma of the prior actors [ours: Deviation 5]
    retire_ratio: float = 1.05  # alpha: 1.05 asks for rbar + 5 % of abs(rbar) [ours: Deviation 1]
    retire_patience: int = 3  # "several times": in this many evaluations in a row [ours: Deviation 2]
    local_buffer_size: int = 50  # steps an actor delivers at once [Ape-X]; Alg. 2's B; in shapes B is a batch
    per_alpha: float = 0.6  # how far priorities skew the sampling, 0 is uniform [Ape-X]
    per_beta: float = 0.4  # how far importance weights correct it, 1 is fully [Ape-X]
    samples_per_insert: float = 128.0  # draws per inserted step; 0: no limit [paper silent; a batch a step]
    publish_frequency: int = 10  # updates between publications of the network [ours: the paper is silent]
    eval_frequency: int = 5_000  # steps between greedy evaluations [ours: Deviation 3]
    eval_episodes: int = 10  # episodes of an evaluation [ours: Deviation 3]

    num_actors = property(lambda self: self.num_nature_actors + self.num_prior_actors)
    capacity = property(lambda self: min(self.buffer_size, self.total_timesteps))  # slots of all
    ring_size = property(lambda self: self.capacity // self.num_actors)  # slots that an actor owns
    block_size = property(lambda self: self.local_buffer_size + self.n_step + 1)  # most that a block fills

# ------------------------------------------------------------------------------------------------ Environment
def make_control(env_id: str, num_envs: int = 1, film: bool = False) -> gym.vector.VectorEnv:
    """A task of continuous control: states (num_envs, 1, observation), float32; next-step autoreset."""
    gym.logger.min_level, render = gym.logger.ERROR, {"render_mode": "rgb_array"} if film else {}
    try:  # only registered ids: "module:id", read from a file, would run that module
        if film and "mujoco" in str(gym.registry[env_id].entry_point):
            render["camera_name"] = "track"  # follows the robot
            screen = sys.platform != "linux" or os.getenv("DISPLAY")
            os.environ.setdefault("MUJOCO_GL", "glfw" if screen else "egl")
        env = gym.make_vec(gym.registry[env_id], num_envs, vectorization_mode="sync", wrappers=[
            lambda env: FrameStackObservation(DtypeObservation(env, np.float32), STACK)], **render)
        flat = len(env.single_observation_space.shape) == 2 and len(env.single_action_space.shape) == 1
        if not (flat and env.single_action_space.is_bounded() and env.spec.max_episode_steps):
            raise ValueError("it needs flat observations, bounded actions and max_episode_steps")
        if film:  # where it cannot, it fails now
            env.reset()
            env.envs[0].render()
        return env
    except Exception as error:
        sys.exit(f"error: cannot act in {env_id} as in Hopper-v5 (your own task? import it): {error!r:.200}")

# ------------------------------------------------------------------------------------------ Networks and loss
def dense(inputs: int, outputs: int) -> nn.Sequential:
    """Two hidden layers of 64 ReLU units with layer norm, a linear output layer (App. A; Deviation 15)."""
    return nn.Sequential(nn.Linear(inputs, 64), nn.LayerNorm(64), nn.ReLU(),
                         nn.Linear(64, 64), nn.LayerNorm(64), nn.ReLU(), nn.Linear(64, outputs))


class Actor(nn.Module):
    """pi(s) of App. A, with a tanh that keeps it within the action bounds (Deviation 14)."""
    def __init__(self, env):
        super().__init__()
        actions = env.single_action_space
        self.network = dense(math.prod(env.single_observation_space.shape), actions.shape[0])
        low, high = torch.from_numpy(actions.low).float(), torch.from_numpy(actions.high).float()
        self.register_buffer("centre", (high + low) / 2, persistent=False)  # of the bounds; not saved
        self.register_buffer("scale", (high - low) / 2, persistent=False)

    def forward(self, states: torch.Tensor) -> torch.Tensor:
        """states (B, 1, observation) -> actions (B, action)."""
        return self.centre + self.scale * torch.tanh(self.network(states.flatten(1)))


class Critic(nn.Module):
    """q(s, a) of App. A; linear, since a softmax over one number is constant (Deviation 14)."""
    def __init__(self, env):
        super().__init__()
        observations, actions = env.single_observation_space, env.single_action_space
        self.network = dense(math.prod(observations.shape) + actions.shape[0], 1)

    def forward(self, states: torch.Tensor, actions: torch.Tensor) -> torch.Tensor:
        """states (B, 1, observation), actions (B, action) -> q-values (B,)."""
        return self.network(torch.cat([states.flatten(1), actions.float()], 1)).squeeze(1)


class ActorCritic(nn.Module):
    """pi(s; theta) and q(s, a; omega), as in the formulas of section 5.2."""
    def __init__(self, env):
        super().__init__()
        self.actor, self.critic = Actor(env), Critic(env)


@torch.no_grad()
def td_target(target_actor, target_critic, returns, discounts, next_states) -> torch.Tensor:
    """The target of section 5.2: returns, discounts (B,), next_states (B, 1, observation) -> (B,)."""
    next_q = target_critic(next_states, target_actor(next_states))  # q(s_{t+n}, pi(...; theta-); omega-)
    return returns + discounts * next_q  # the paper calls this sum G_t; here G_t is returns


def actor_loss(actor, critic, states) -> torch.Tensor:
    """The actor's objective of section 5.2, max E[q(S_t, pi(S_t))], as a loss, a scalar."""
    return -critic(states, actor(states)).mean()


@torch.inference_mode()
def first_priorities(online, states, actions, returns, discounts, k) -> np.ndarray:
    """Deviation 4, as Ape-X: abs(TD error) (m,) of the first m of L states, by the online networks alone."""
    states, t = torch.from_numpy(states), np.arange(len(actions))
    next_q = online.critic(states, online.actor(states)).numpy()  # (L,)
    targets = returns + discounts * next_q[t + k]  # G_t + gamma^k q(s_{t+k}, pi(s_{t+k}))  (m,)
    return np.abs(targets - online.critic(states[: len(t)], torch.from_numpy(actions)).numpy())


@torch.no_grad()
def soft_update(target: nn.Module, source: nn.Module, tau: float) -> None:
    """target <- (1 - tau) target + tau source, each parameter; no buffers (of a BatchNorm, say)."""
    torch._foreach_lerp_([*target.parameters()], [*source.parameters()], tau)  # one call for all: fastest

# ------------------------------------------------------------------------------ Actors and evaluator (Alg. 1)
def noise_of(index: int, args: Args) -> float:
    """Sigma of an actor's noise, 1: half the actions' range; a retired prior's is min_noise (Deviation 6)."""
    share = 1.0 if index >= args.num_nature_actors else index / max(1, args.num_nature_actors - 1)
    return args.max_noise + share * (args.min_noise - args.max_noise)


def surpassed(evaluations: list[float], rbar: float, ratio: float, patience: int) -> bool:
    """Alg. 1.1, "if several times r >= alpha rbar": was it so `patience` times in a row, ever? Stays True."""
    threshold = rbar + (ratio - 1) * abs(rbar)  # Deviation 1: rbar may be negative
    high = [r >= threshold for r in evaluations]
    return any(all(high[i : i + patience]) for i in range(len(high) - patience + 1))


def actor(args: Args, index: int, prior: str | None, replay, store: np.ndarray, board: np.void):
    """Alg. 1.1 (with a prior's file), 1.2 (without): a generator; yields the global step before a block."""
    first_count, global_step, evaluations = replay.join(index)
    env, rng = make_control(args.env_id), np.random.default_rng([args.seed, index, first_count, global_step])
    low, high = env.single_action_space.low, env.single_action_space.high
    online, prior_network = ActorCritic(env), Actor(env)  # the learner's (for all priorities); the prior's
    if prior:  # "given the baseline average reward rbar of current prior actor"; fills prior_network
        rbar = load(prior, args.env_id, network=prior_network)["average_return"]
    buffer, version = LocalBuffer(args, store, index, first_count), -1
    states, _ = env.reset(seed=int(rng.integers(2**31)))
    episode_step, episodic_return = 0, 0.0
    while True:
        yield global_step  # goes on once the learner has caught up: see `allowed_step`
        version = receive(board, "newest", online, version)  # "periodically receive network parameters"
        is_prior = bool(prior) and not surpassed(evaluations, rbar, args.retire_ratio, args.retire_patience)
        policy = prior_network if is_prior else online.actor  # retired: "replace ... with a new nature actor"
        sigma = (args.prior_noise if is_prior else noise_of(index, args)) * (high - low) / 2
        while len(buffer.steps) < args.local_buffer_size + args.n_step:  # a block, and the n that wait
            with torch.inference_mode():
                action = policy(torch.from_numpy(states))[0].numpy()  # a_t = pi(s_t)
            action = np.clip(action + sigma * rng.standard_normal(len(low), np.float32), low, high)
            next_states, rewards, terminations, truncations, _ = env.step(action[None])
            buffer.append(states[0], action, float(rewards[0]), bool(terminations[0]), episode_step)
            episode_step, episodic_return = episode_step + 1, episodic_return + float(rewards[0])
            if terminations[0] or truncations[0]:
                buffer.append(next_states[0], action, 0.0, False, episode_step, final=True)  # s_{t+1}
                buffer.episodes.append((episodic_return, episode_step))
                episode_step, episodic_return = 0, 0.0
                next_states = env.step(action[None])[0]  # the action is ignored: the next first state
            states = next_states
        global_step, evaluations = buffer.deliver(replay, online, is_prior)  # "receive ... reward r"


def play_control(env_id: str, network: Actor, episodes: int, seed: int, film: list | None = None):
    """Returns (episodes,) of whole episodes without noise; film takes every fifth picture of the first."""
    env, t = make_control(env_id, episodes, film is not None), 0
    states, _ = env.reset(seed=seed)
    returns, playing = np.zeros(episodes), np.ones(episodes, bool)
    while playing.any():
        if film is not None and playing[0] and t % 5 == 0:
            film.append(env.envs[0].render())
        with torch.inference_mode():
            actions = network(torch.from_numpy(states)).numpy()
        states, rewards, terminations, truncations, _ = env.step(actions)
        returns, t = returns + rewards * playing, t + 1
        playing &= ~(terminations | truncations)
    return returns


def evaluator(args: Args, index: int, prior: None, replay, store: np.ndarray, board: np.void):
    """Measures the average reward r of Alg. 1.1 (Deviation 3); run like an actor, it stores nothing."""
    network, last = Actor(make_control(args.env_id)), int(board["global_step"])
    while True:
        step = int(board["global_step"])
        if step // args.eval_frequency > last // args.eval_frequency:
            receive(board, "average", network, -1)
            returns = play_control(args.env_id, network, args.eval_episodes, args.seed + step)
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


class DDPG:
    """What learns: theta, omega (online), theta-, omega- (target), an average of theta, which is saved."""
    def __init__(self, args: Args, env, device: torch.device):
        self.args, self.device, self.updates = args, device, 0
        self.online = ActorCritic(env).to(device)
        self.target, self.average = copy.deepcopy(self.online), copy.deepcopy(self.online.actor)
        self.theta = list(self.online.actor.parameters())
        self.omega = list(self.online.parameters())[len(self.theta) :]  # what ActorCritic holds after actor
        matrices = [tensor for tensor in self.omega if tensor.ndim == 2 and len(tensor) > 1]  # hidden layers'
        others = [tensor for tensor in self.omega if tensor.ndim < 2 or len(tensor) == 1]
        self.adam = torch.optim.Adam(lr=args.critic_learning_rate, fused=True, capturable=True, params=[
            {"params": self.theta, "lr": args.actor_learning_rate},
            {"params": matrices, "weight_decay": args.critic_l2}, {"params": others}])  # Deviation 16
        self.learn = Recorded(self.learn) if device.type == "cuda" else self.learn
        self.parts = dict(network=self.average, online=self.online, target=self.target, optimizer=self.adam)

    def update(self, batch, global_step: int) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        """Alg. 3, "learn and update the network parameters": TD errors (B,), metrics, still on the device."""
        td_errors, loss, pi_loss, q_value = self.learn(batch)
        self.updates += 1
        soft_update(self.average, self.online.actor, tau=max(AVERAGING, 10 / (10 + self.updates)))
        return td_errors, {"losses/td_loss": loss, "losses/actor_loss": pi_loss, "losses/q_values": q_value}

    def learn(self, batch) -> list[torch.Tensor]:
        """A step of Adam: TD errors (B,), losses, mean q. A GPU records it: an `if` is decided once."""
        states, actions, returns, discounts, next_states, weights = batch
        target = td_target(self.target.actor, self.target.critic, returns, discounts, next_states)  # (B,)
        q_values = self.online.critic(states, actions)  # q(S_t, A_t; omega)  (B,)
        loss_omega = (weights * 0.5 * (target - q_values).square()).mean()
        loss_theta = actor_loss(self.online.actor, self.online.critic, states)  # unweighted: Deviation 24
        self.adam.zero_grad()
        loss_omega.backward(inputs=self.omega)
        loss_theta.backward(inputs=self.theta)  # leaves the critic alone
        self.adam.step()  # both networks from the same weights; no clipping (Deviation 21)
        soft_update(self.target, self.online, tau=self.args.tau)  # theta-minus, omega-minus
        return [each.detach() for each in (target - q_values, loss_omega, loss_theta, q_values.mean())]


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
PRELOAD = ["torch", "torch.utils.tensorboard", "tyro", "imageio", "gymnasium.wrappers", "mujoco"]
MAY_BE_0 = "seed num_nature_actors num_prior_actors learning_starts".split()  # of the whole numbers
FRACTIONS = "gamma tau per_alpha per_beta".split()


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
    """Twenty greedy episodes of network, saved at path; prints and returns their average, films the first."""
    film, where = ([], f", the first into {gif}") if args.capture_video else (None, "")
    print(f"{path} plays 20 greedy episodes{where}", flush=True)
    returns = play_control(args.env_id, network, 20, args.seed, film)
    print(f"{path}: {returns.mean():.2f} +- {returns.std():.2f} over 20 greedy episodes", flush=True)
    if film:
        imageio.mimsave(gif, film, duration=66, loop=0)
    return float(returns.mean())


def main(args: Args) -> None:
    """Fig. 1: check, share memory, start the actors, learn, save, measure."""
    torch.set_num_threads(1)  # networks as small as these are slower on more
    torch.manual_seed(args.seed)
    device = torch.device("cuda" if args.cuda and torch.cuda.is_available() else "cpu")
    env = make_control(args.env_id, film=args.capture_video)
    network = Actor(env)  # to play with
    if args.evaluate:
        load(args.evaluate, args.env_id, network=network)
        return measure(args, args.evaluate, network, Path(f"{Path(args.evaluate).stem}.gif"))
    check(args, np.dtype(store_fields(env), align=True).itemsize)
    priors, agent = find_priors(args, network), DDPG(args, env, device)
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
