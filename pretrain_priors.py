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
"""Trains the baseline agents that act as priors in CA2E, and writes their checkpoints.

CA2E (Bai et al., "Compound Asynchronous Exploration and Exploitation") lets trained baseline agents, the
prior actors, play beside exploring ones. The paper has three, from "different pre-training DQN algorithms":
here `dqn`, `double-dqn` and `n-step-double-dqn` for Atari; `ddpg`, `n-step-ddpg` and `td3` for continuous
control. One network architecture each, as the CA2E scripts have it, trained in one process.

    several environments, stepped together  -->  UniformReplay  -->  update  -->  network
                 ^                                                                   |
                 +---------------------- actions, with exploration ------------------+

    python pretrain_priors.py --env-id PongNoFrameskip-v4 --bf16              # 20 after 350,000 steps, 40 min
    python pretrain_priors.py --env-id PongNoFrameskip-v4 --algo dqn --gamma 0.97 --target-return 13 \
        --total-timesteps 1000000                                                        # weaker, later
    python pretrain_priors.py --env-id BreakoutNoFrameskip-v4 --algo dqn --gamma 0.97 \
        --exploration-steps 50000 --target-return 40                # about 40 after 250,000 steps, an hour
    python pretrain_priors.py --env-id Hopper-v5 --algo n-step-ddpg                      # 20 min
    python pretrain_priors.py --env-id Hopper-v5 --algo n-step-ddpg --resume             # goes on

The result is priors/<env_id>/<algo>.pt. Read `dqn_target` and `ddpg_target` first (all that tells the
algorithms apart), then `main`.
"""

import math
import os
import signal
import sys
import time
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import ale_py
import gymnasium as gym
import numpy as np
import torch
import torch.nn as nn
import tyro
from ale_py.vector_env import AtariVectorEnv
from gymnasium.wrappers import DtypeObservation, FrameStackObservation
from torch.utils.tensorboard import SummaryWriter

CHECKPOINT_FORMAT = 1
AVERAGING = 2e-4  # a DQN update moves the averaged weights so far towards the newest
STACK = 1  # observations in a state of continuous control; Atari takes 4 frames
CONTROL = {  # the defaults of ddpg, n-step-ddpg and td3, where they are not those of Atari
    "total_timesteps": 300_000, "eval_frequency": 5_000, "eval_episodes": 10, "num_envs": 1,
    "learning_rate": 1e-3, "batch_size": 128, "buffer_size": 300_000, "train_frequency": 1,
    "learning_starts": 5_000}


# ------------------------------------------------------------------------------------------------------- Args
@dataclass
class Args:
    # Run
    env_id: str = "PongNoFrameskip-v4"
    """the game or task, as gymnasium registers it"""
    algo: Literal["dqn", "double-dqn", "n-step-double-dqn",
                  "ddpg", "n-step-ddpg", "td3"] = "n-step-double-dqn"
    """three for Atari, three for continuous control, "control" below [ours: Deviation 20]"""
    seed: int = 1
    """seed of the environments, the exploration and the sampling"""
    cuda: bool = True
    """learn on the GPU where there is one"""
    bf16: bool = False
    """Atari: compute in bfloat16 (about 1.5 times as fast on a CPU with AVX512-BF16, else left out) [ours]"""
    prior_dir: str = "priors"
    """the checkpoint goes to <prior_dir>/<env_id>/<algo>.pt"""
    total_timesteps: int = 500_000
    """agent steps, of all environments together; control 300,000"""
    target_return: float = float("inf")
    """stop early, once a greedy evaluation averages this much"""
    eval_frequency: int = 25_000
    """agent steps between greedy evaluations; control 5,000"""
    eval_episodes: int = 5
    """games of each evaluation; the checkpoint's own average is always taken over 20; control 10"""
    resume: bool = False
    """go on from the last state of the same env_id, algo and seed; the replay is filled anew"""

    # Baseline agent
    num_envs: int = 8
    """environments stepped together, so that they share one forward pass; control 1"""
    learning_rate: float = 1e-4
    """of Adam [paper, App. A]; control 1e-3, for both networks [TD3]"""
    batch_size: int = 32
    """transitions in an update; control 128 [paper, App. A]"""
    buffer_size: int = 100_000
    """transitions in the replay [ours: enough for a prior, 0.7 GB]; control 300,000"""
    gamma: float = 0.99
    """discount factor [DQN, DDPG]"""
    n_step: int = 3
    """steps of the return of the n-step algorithms; the others take 1 [Rainbow]"""
    train_frequency: int = 4
    """agent steps per update [DQN]; control 1"""
    learning_starts: int = 10_000
    """agent steps before the first update [OpenAI baselines deepq]; control 5,000"""
    target_network_frequency: int = 1_000
    """Atari: agent steps between copies to the target network [OpenAI baselines deepq]"""
    start_e: float = 1.0
    """Atari: epsilon at the first step [DQN]"""
    end_e: float = 0.02
    """Atari: epsilon from exploration_steps on [ours]"""
    exploration_steps: int = 100_000
    """Atari: agent steps over which epsilon falls [OpenAI baselines deepq]"""
    tau: float = 0.005
    """control: share of the newest weights in each soft update of the target networks [TD3]"""
    exploration_noise: float = 0.3
    """control: sigma of the noise, 1 is half of the actions' range [ours: at 0.1 Hopper stays at 360]"""

    @property
    def atari(self) -> bool:
        """Is this Atari, or continuous control?"""
        return self.algo.endswith("dqn")


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


def make_control(env_id: str, num_envs: int = 1, render_mode: str | None = None) -> gym.vector.VectorEnv:
    """A task of continuous control: states (num_envs, 1, observation), float32; exits on any other id.

    The step after an episode's end ignores its action and returns the next episode's first state.
    """
    warnings.filterwarnings("ignore", ".*precision lowered by casting to float32.*")
    try:
        env = gym.make_vec(env_id, num_envs, vectorization_mode="sync", render_mode=render_mode, wrappers=[
            lambda env: FrameStackObservation(DtypeObservation(env, np.float32), STACK)])
    except Exception as error:
        newest = "; use " + env_id[:-1] + "5" if env_id.endswith(("-v2", "-v3")) else ""  # Deviation 17
        sys.exit(f"error: cannot make {env_id} ({' '.join(str(error).split())}){newest}")
    observations, actions = env.single_observation_space, env.single_action_space
    if not isinstance(actions, gym.spaces.Box) or not actions.is_bounded() or len(actions.shape) != 1:
        sys.exit(f"error: the actions of {env_id} are {actions}; DDPG needs bounded numbers, as in Hopper-v5")
    if len(observations.shape) != 2:
        sys.exit(f"error: an observation of {env_id} has the shape {observations.shape[1:]}; "
                 "this script needs a flat one, as Hopper-v5 has")
    return env


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


def dense(inputs: int, outputs: int) -> nn.Sequential:
    """Two hidden layers of 64 ReLU units with layer norm, a linear output layer (App. A; Deviation 15)."""
    return nn.Sequential(
        nn.Linear(inputs, 64), nn.LayerNorm(64), nn.ReLU(),
        nn.Linear(64, 64), nn.LayerNorm(64), nn.ReLU(),
        nn.Linear(64, outputs),
    )  # fmt: skip


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
        inputs = math.prod(env.single_observation_space.shape) + env.single_action_space.shape[0]
        self.network = dense(inputs, 1)

    def forward(self, states: torch.Tensor, actions: torch.Tensor) -> torch.Tensor:
        """states (B, 1, observation), actions (B, action) -> q-values (B,)."""
        return self.network(torch.cat([states.flatten(1), actions.float()], 1)).squeeze(1)


def play_control(env_id: str, actor: Actor, episodes: int, seed: int, film: list | None = None):
    """Returns (episodes,) of whole episodes played side by side, without noise; film collects the first."""
    env = make_control(env_id, episodes, "rgb_array" if film is not None else None)
    states, _ = env.reset(seed=seed)
    returns, playing = np.zeros(episodes), np.ones(episodes, bool)
    while playing.any():
        if film is not None and playing[0]:
            film.append(env.envs[0].render())
        with torch.inference_mode():
            actions = actor(torch.from_numpy(states)).numpy()
        states, rewards, terminations, truncations, _ = env.step(actions)
        returns += rewards * playing
        playing &= ~(terminations | truncations)
    return returns


# ----------------------------------------------------------------------------------------------------- Replay
class UniformReplay:
    """A ring of time steps; row t holds what every environment saw and did at t, each frame once.

    A game's last observation takes a place of its own (`last`): its action was ignored, it is no transition.
    """

    def __init__(self, rows: int, num_envs: int, env, seed: int):
        self.rows, self.num_envs, self.count, self.rng = rows, num_envs, 0, np.random.default_rng(seed)
        frames, actions = env.single_observation_space, env.single_action_space
        self.stack = frames.shape[0]
        self.frames = np.zeros((rows, num_envs, *frames.shape[1:]), frames.dtype)
        self.actions = np.zeros((rows, num_envs, *actions.shape), actions.dtype)
        self.rewards = np.zeros((rows, num_envs), np.float32)  # R_{t+1}, clipped on Atari
        self.terminations = np.zeros((rows, num_envs), bool)  # of s_{t+1}: a life or the game is lost
        self.ages = np.zeros((rows, num_envs), np.int64)  # steps since the game's first frame
        self.last = np.zeros((rows, num_envs), bool)  # s_t is the game's last observation

    def add(self, frames, actions, rewards, terminations, ages, last) -> None:
        """One time step of all environments: frames (num_envs, 84, 84), say, the others (num_envs, ...)."""
        row = self.count % self.rows
        self.frames[row], self.actions[row], self.rewards[row] = frames, actions, rewards
        self.terminations[row], self.ages[row], self.last[row] = terminations, ages, last
        self.count += 1

    def stacks(self, t: np.ndarray, e: np.ndarray) -> np.ndarray:
        """States (B, stack, ...) of environments e at times t; zeros before a game's first frame."""
        back = np.arange(self.stack - 1, -1, -1)
        frames = self.frames[(t[:, None] - back) % self.rows, e[:, None]]
        frames[back > self.ages[t % self.rows, e][:, None]] = 0
        return frames

    def sample(self, batch_size: int, n: int, gamma: float) -> tuple[np.ndarray, ...]:
        """states, actions, n-step returns, discounts, next_states: (B, stack, ...), (B, ...) the others."""
        low, high = max(0, self.count - self.rows + self.stack - 1), self.count - n
        t = self.rng.integers(low, high, batch_size)
        e = self.rng.integers(self.num_envs, size=batch_size)
        while (ended := self.last[t % self.rows, e]).any():
            t[ended] = self.rng.integers(low, high, ended.sum())
        returns, discounts = np.zeros(batch_size, np.float32), np.zeros(batch_size, np.float32)
        k, open_ = np.zeros(batch_size, np.int64), np.ones(batch_size, bool)
        for i in range(n):  # a window is cut where a life is lost or a game ends
            row, after = (t + i) % self.rows, (t + i + 1) % self.rows
            returns += open_ * gamma**i * self.rewards[row, e]  # G_t = sum_i gamma^i R_{t+i+1}  (B,)
            discounts[open_] = (gamma ** (i + 1) * ~self.terminations[row, e])[open_]
            k += open_
            open_ &= ~(self.terminations[row, e] | self.last[after, e])
        return self.stacks(t, e), self.actions[t % self.rows, e], returns, discounts, self.stacks(t + k, e)


class Player:
    """The environments, stepped together by the agent's actions, each step stored in the replay."""

    def __init__(self, args: Args, env, replay: UniformReplay, seed: int):
        self.env, self.replay, self.atari = env, replay, args.atari
        self.fire = fire_button(env) if args.atari else None
        self.states, _ = env.reset(seed=seed)
        self.life_lost, self.last = np.zeros(args.num_envs, bool), np.zeros(args.num_envs, bool)
        self.ages, self.returns = np.zeros(args.num_envs, np.int64), np.zeros(args.num_envs)

    def step(self, agent, step: int) -> list[float]:
        """One step of every environment; the unclipped returns of the games that it ended."""
        actions = agent.act(self.states, step)
        if self.fire is not None:
            actions[self.life_lost] = self.fire
        next_states, rewards, terminations, truncations, info = self.env.step(actions)
        stored = np.clip(rewards, -1, 1) if self.atari else rewards
        self.replay.add(self.states[:, -1], actions, stored, terminations, self.ages, self.last)
        self.returns += rewards
        self.ages = np.where(self.last, 0, self.ages + 1)  # then comes the next game's first
        self.life_lost = terminations & (info["lives"] > 0 if self.atari else False)
        self.last = ((terminations & ~self.life_lost) | truncations) & ~self.last
        ended = self.returns[self.last].tolist()
        self.returns[self.last] = 0
        self.states = next_states
        return ended


# ----------------------------------------------------------------------------------------------------- Agents
def dqn_target(algo: str, q_network, target_network, returns, next_states, discounts) -> torch.Tensor:
    """(B,): G_t + gamma^k q(s_{t+k}, a*; theta-); a* by theta- in DQN, by theta in double DQN."""
    next_q = target_network(next_states)  # (B, num_actions)
    chooser = next_q if algo == "dqn" else q_network(next_states)
    return returns + discounts * next_q.gather(1, chooser.argmax(1, keepdim=True)).squeeze(1)


def ddpg_target(algo: str, target_actor, target_critics, returns, next_states, discounts) -> torch.Tensor:
    """(B,): G_t + gamma^k q(s_{t+k}, pi(s_{t+k}; theta-); omega-).

    TD3 adds clipped noise to the target's action and takes the smaller of two critics [TD3, 4.2 and 5.3].
    """
    next_actions = target_actor(next_states)  # (B, action)
    if algo == "td3":
        noise = target_actor.scale * (0.2 * torch.randn_like(next_actions)).clamp(-0.5, 0.5)
        distance = (next_actions + noise - target_actor.centre) / target_actor.scale
        next_actions = target_actor.centre + target_actor.scale * distance.clamp(-1, 1)  # within the bounds
    next_q = torch.stack([critic(next_states, next_actions) for critic in target_critics]).amin(0)
    return returns + discounts * next_q


class DQN:
    """dqn, double-dqn and n-step-double-dqn; `network` acts, `average` is evaluated and ships.

    average follows the weights of network slowly, over some 20,000 steps, and plays better than they do.
    """

    def __init__(self, args: Args, env, device: torch.device):
        self.args, self.device, self.num_actions = args, device, env.single_action_space.n
        self.network, self.target, self.rng = QNetwork(env), QNetwork(env), np.random.default_rng(args.seed)
        self.average = QNetwork(env).requires_grad_(False)
        for network in (self.network, self.target, self.average):
            network.load_state_dict(self.network.state_dict())
            network.to(device, memory_format=torch.channels_last)
        self.optimizer = torch.optim.Adam(self.network.parameters(), lr=args.learning_rate, fused=True)
        self.parts = {"network": self.network, "target": self.target, "average": self.average,
                      "optimizer": self.optimizer}
        self.copies = math.inf  # until the first update
        has_bf16 = device.type == "cuda" or torch.cpu.get_capabilities().get("avx512_bf16", False)
        self.bf16 = args.bf16 and has_bf16
        if self.bf16 != args.bf16:
            print("this CPU lacks AVX512-BF16, without which bfloat16 is slow: learning in float32")

    def act(self, states: np.ndarray, step: int) -> np.ndarray:
        """Epsilon-greedy actions (num_envs,)."""
        args = self.args
        epsilon = args.start_e + min(1.0, step / args.exploration_steps) * (args.end_e - args.start_e)
        with torch.inference_mode():
            actions = self.network(torch.from_numpy(states).to(self.device)).argmax(1).cpu().numpy()
        random = self.rng.random(len(actions)) < epsilon
        actions[random] = self.rng.integers(self.num_actions, size=random.sum())
        return actions

    def update(self, batch, step: int) -> dict[str, torch.Tensor]:
        """One gradient step; the metrics, still on the device."""
        states, actions, returns, discounts, next_states = batch
        copies = step // self.args.target_network_frequency
        if copies > self.copies:
            self.target.load_state_dict(self.network.state_dict())
        self.copies = copies
        with torch.autocast(states.device.type, torch.bfloat16, enabled=self.bf16):
            with torch.no_grad():
                target = dqn_target(
                    self.args.algo, self.network, self.target, returns, next_states, discounts)
            q_values = self.network(states).gather(1, actions.unsqueeze(1)).squeeze(1)  # q(s_t, a_t)  (B,)
        loss = 0.5 * (target.float() - q_values.float()).square().mean()
        self.optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(self.network.parameters(), 10.0)
        self.optimizer.step()
        rate = max(AVERAGING, 10 / (10 + step // self.args.train_frequency))  # early: the last tenth
        with torch.no_grad():
            torch._foreach_lerp_([*self.average.parameters()], [*self.network.parameters()], rate)
        return {"losses/td_loss": loss.detach(), "losses/q_values": q_values.detach().mean()}


class DDPG:
    """ddpg, n-step-ddpg and td3; `network` acts, is evaluated (as `average`) and ships."""

    def __init__(self, args: Args, env, device: torch.device):
        self.args, self.device, self.rng, self.updates = args, device, np.random.default_rng(args.seed), 0
        self.bounds = env.single_action_space
        critics = 2 if args.algo == "td3" else 1
        self.network, self.target = Actor(env).to(device), Actor(env).to(device)
        self.average = self.network
        self.critics = nn.ModuleList(Critic(env) for _ in range(critics)).to(device)
        self.target_critics = nn.ModuleList(Critic(env) for _ in range(critics)).to(device)
        for target, network in ((self.target, self.network), (self.target_critics, self.critics)):
            target.load_state_dict(network.state_dict())
            target.requires_grad_(False)
        self.optimizer = torch.optim.Adam(self.network.parameters(), lr=args.learning_rate, fused=True)
        self.critic_optimizer = torch.optim.Adam(self.critics.parameters(), lr=args.learning_rate, fused=True)
        self.parts = {"network": self.network, "target": self.target, "critics": self.critics,
                      "target_critics": self.target_critics, "optimizer": self.optimizer,
                      "critic_optimizer": self.critic_optimizer}

    def act(self, states: np.ndarray, step: int) -> np.ndarray:
        """Actions (num_envs, action) with Gaussian noise; uniformly random before learning_starts."""
        low, high = self.bounds.low, self.bounds.high
        if step < self.args.learning_starts:
            return self.rng.uniform(low, high, (len(states), len(low))).astype(np.float32)
        with torch.inference_mode():
            actions = self.network(torch.from_numpy(states).to(self.device)).cpu().numpy()
        sigma = self.args.exploration_noise * (high - low) / 2
        return np.clip(actions + sigma * self.rng.standard_normal(actions.shape, np.float32), low, high)

    def update(self, batch, step: int) -> dict[str, torch.Tensor]:
        """One gradient step of the critics, and of the actor (in TD3 at every second one)."""
        states, actions, returns, discounts, next_states = batch
        with torch.no_grad():
            target = ddpg_target(
                self.args.algo, self.target, self.target_critics, returns, next_states, discounts)
        q_values = torch.stack([critic(states, actions) for critic in self.critics])  # (1 or 2, B)
        loss = 0.5 * (target - q_values).square().mean(1).sum()
        self.critic_optimizer.zero_grad()
        loss.backward()
        self.critic_optimizer.step()
        self.updates += 1
        if self.args.algo != "td3" or self.updates % 2 == 0:
            actor_loss = -self.critics[0](states, self.network(states)).mean()
            self.optimizer.zero_grad()
            actor_loss.backward(inputs=list(self.network.parameters()))
            self.optimizer.step()
            with torch.no_grad():
                torch._foreach_lerp_([*self.target.parameters(), *self.target_critics.parameters()],
                                     [*self.network.parameters(), *self.critics.parameters()], self.args.tau)
        return {"losses/td_loss": loss.detach(), "losses/q_values": q_values.detach().mean()}


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


def cpu_copy(network: nn.Module) -> dict:
    """The network's tensors, copied to the CPU."""
    return {name: tensor.to("cpu", copy=True) for name, tensor in network.state_dict().items()}


def load_state(path: Path, args: Args) -> dict:
    """What an interrupted run left; exits with one line where there is nothing to go on from."""
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
        if (state["format"], state["algo"], state["env_id"]) == (CHECKPOINT_FORMAT, args.algo, args.env_id):
            return state
        problem = "of another kind"
    except Exception as error:
        problem = type(error).__name__
    sys.exit(f"error: cannot go on from {path} ({problem}); start without --resume")


def greedy_returns(args: Args, env, network: dict, episodes: int, seed: int) -> np.ndarray:
    """Unclipped returns of full greedy games, as the evaluator of CA2E measures them."""
    player, play = (QNetwork(env), play_atari) if args.atari else (Actor(env), play_control)
    player.load_state_dict(network)
    return play(args.env_id, player, episodes, seed)


def ship(args: Args, env, header: dict, state: dict) -> None:
    """Writes the network that evaluated best as a prior, in half precision, with its own average return."""
    path, there = Path(args.prior_dir) / args.env_id / f"{args.algo}.pt", -float("inf")
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        there = float(torch.load(path, "cpu", weights_only=True)["average_return"])
    except FileNotFoundError:
        pass
    except Exception as error:
        sys.exit(f"error: {path} is no checkpoint ({type(error).__name__}); move it away and --resume")
    network = {name: tensor.half() for name, tensor in state["best_network"].items()}  # rbar is of these
    returns = greedy_returns(args, env, network, 20, 10_000 + args.seed)
    if there > returns.mean():
        sys.exit(f"error: {path} is better than this one's {returns.mean():.2f} and stays; write this one by "
                 "--resume and another --prior-dir")
    save_checkpoint(path, {**header, "network": network, "average_return": float(returns.mean()),
                           "episodes": 20, "global_step": state["best_step"]})
    print(f"{path}: {returns.mean():.2f} +- {returns.std():.2f} over 20 greedy games, "
          f"from step {state['best_step']:,}")


# ------------------------------------------------------------------------------------------------------- Main
def parse() -> Args:
    """The settings from the command line; continuous control has defaults of its own."""
    args = tyro.cli(Args)
    return args if args.atari else tyro.cli(Args, default=Args(algo=args.algo, **CONTROL))


def main(args: Args) -> None:
    """Acts, stores and learns in turn; keeps the network that evaluated best; measures and ships it."""
    if args.total_timesteps <= args.learning_starts:
        sys.exit("error: --learning-starts must be below --total-timesteps")
    device = torch.device("cuda" if args.cuda and torch.cuda.is_available() else "cpu")
    torch.manual_seed(args.seed)
    if not args.atari:
        torch.set_num_threads(1)  # networks as small as these are slower on more
    env = (make_atari if args.atari else make_control)(args.env_id, args.num_envs)
    agent = (DQN if args.atari else DDPG)(args, env, device)
    n = args.n_step if args.algo.startswith("n-step") else 1

    run = Path("runs") / f"{args.env_id.replace('/', '-')}__{args.algo}__{args.seed}"
    header = {"format": CHECKPOINT_FORMAT, "algo": args.algo, "env_id": args.env_id}
    state = {"global_step": 0, "best": -float("inf"), "best_network": cpu_copy(agent.average),
             "best_step": 0}
    if args.resume:
        found = load_state(run / "resume.pt", args)
        try:
            state = {key: found[key] for key in state}
            for name, part in agent.parts.items():  # but the learning rate may have been given anew
                groups = {"param_groups": part.state_dict()["param_groups"]} if "optimizer" in name else {}
                part.load_state_dict({**found[name], **groups})
        except Exception as error:
            sys.exit(f"error: {run}/resume.pt does not fit ({type(error).__name__}); start without --resume")
    elif (run / "resume.pt").exists():
        sys.exit(f"error: {run} holds a training already; go on with --resume, or move it away")
    step = first_step = state["global_step"]
    writer = SummaryWriter(run, purge_step=step + 1 if args.resume else None)

    def save() -> None:
        save_checkpoint(run / "resume.pt", {
            **header, **state, **{name: part.state_dict() for name, part in agent.parts.items()}})

    replay = UniformReplay(args.buffer_size // args.num_envs, args.num_envs, env, args.seed)
    player = Player(args, env, replay, args.seed + step)
    stop, start, saved, metrics = [], time.time(), time.time(), {}
    for signum in (signal.SIGINT, signal.SIGTERM):
        signal.signal(signum, lambda number, frame: stop.append(number))

    while step < args.total_timesteps and state["best"] < args.target_return and not stop:
        for game_return in player.step(agent, step):
            writer.add_scalar("charts/episodic_return", game_return, step)
        before, step = step, step + args.num_envs
        state["global_step"] = step

        def due(every: int) -> int:
            return step // every - before // every

        if step - first_step <= args.learning_starts:
            continue
        for _ in range(due(args.train_frequency)):
            batch = replay.sample(args.batch_size, n, args.gamma)
            metrics = agent.update([torch.from_numpy(array).to(device) for array in batch], step)
        if due(1000) and metrics:
            sps = (step - first_step) / (time.time() - start)
            for name, value in metrics.items():
                writer.add_scalar(name, value.item(), step)
            writer.add_scalar("charts/SPS", sps, step)
            print(f"step {step:,} of {args.total_timesteps:,} | {sps:.0f} steps/s | best {state['best']:g} | "
                  f"{(args.total_timesteps - step) / sps / 60:.0f} min left", flush=True)
        if due(args.eval_frequency) or step >= args.total_timesteps:
            network = cpu_copy(agent.average)
            returns = greedy_returns(args, env, network, args.eval_episodes, 20_000 + step)
            writer.add_scalar("charts/eval_return", returns.mean(), step)
            writer.add_scalar("charts/eval_return_std", returns.std(), step)
            print(f"step {step:,}: greedy return {returns.mean():.2f} +- {returns.std():.2f}", flush=True)
            if returns.mean() > state["best"]:
                state.update(best=float(returns.mean()), best_network=network, best_step=step)
        if time.time() - saved > 120:
            save()
            saved = time.time()

    save()
    writer.close()
    if stop:
        print(f"stopped at step {step:,}; go on with the same flags and --resume, or, to write the best "
              f"network so far as a prior, with --resume --total-timesteps {step}")
        sys.exit(128 + stop[0])
    for signum in (signal.SIGINT, signal.SIGTERM):
        signal.signal(signum, signal.SIG_DFL)
    ship(args, env, header, state)


if __name__ == "__main__":
    main(parse())
