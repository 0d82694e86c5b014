# /// script
# requires-python = ">=3.11"
# dependencies = ["torch==2.13.0", "gymnasium[atari,mujoco]==1.4.0", "numpy==2.4.6", "tyro==1.0.17",
#   "tensorboard==2.21.0", "ale-py==0.12.1", "mujoco==4.0.0", "imageio==2.38.1"]
# ///
"""Trains the baseline agents that act as priors in CA2E (Bai et al.), and writes their checkpoints.

The paper's three prior actors use "different pre-training DQN algorithms". Here they are `dqn`,
`double-dqn`, `n-step-double-dqn` for Atari, and `ddpg`, `n-step-ddpg`, `td3` for control, with the
networks of the CA2E scripts, trained in one process; the result is priors/<env_id>/<algo>.pt.

    python pretrain_priors.py --env-id PongNoFrameskip-v4 --replace   # 20 after 350,000 steps, an hour
    python pretrain_priors.py --env-id Hopper-v5 --algo n-step-ddpg --replace            # 20 minutes
    python pretrain_priors.py --env-id Hopper-v5 --algo n-step-ddpg --replace --resume   # goes on
Read `dqn_target` and `ddpg_target` first, which tell the algorithms apart, then `main`.
"""

import io, math, os, signal, sys, threading, time
from copy import deepcopy
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
AVERAGING = 2e-4  # tau of the averaged network (at first larger) of the DQN kinds
STACK = 1  # observations in a state of continuous control; Atari takes 4 frames
CONTROL = {  # the defaults of ddpg, n-step-ddpg and td3, where they are not those of Atari
    "total_timesteps": 300_000, "eval_frequency": 5_000, "num_envs": 1, "learning_rate": 1e-3,
    "batch_size": 128, "buffer_size": 300_000, "train_frequency": 1, "learning_starts": 5_000}

# ------------------------------------------------------------------------------------------------------- Args
@dataclass
class Args:
    env_id: str = "PongNoFrameskip-v4"  # the game or task, as gymnasium registers it
    algo: Literal["dqn", "double-dqn", "n-step-double-dqn",
                  "ddpg", "n-step-ddpg", "td3"] = "n-step-double-dqn"  # three for Atari, three for "control"
    seed: int = 1  # seed of the environments, the exploration and the sampling
    cuda: bool = True  # learn on the GPU where there is one
    prior_dir: str = "priors"  # the checkpoint goes to <prior_dir>/<env_id>/<algo>.pt
    replace: bool = False  # replace the checkpoint that is there
    total_timesteps: int = 500_000  # agent steps, of all environments together; control 300,000
    target_return: float = float("inf")  # stop early, once a greedy evaluation averages this much
    eval_frequency: int = 25_000  # agent steps between greedy evaluations; control 5,000
    eval_episodes: int = 10  # games of each; the checkpoint's own average is always taken over 20
    resume: bool = False  # go on from the last state of the same env_id, algo and seed
    num_envs: int = 8  # environments stepped together, so that they share one forward pass; control 1
    learning_rate: float = 1e-4  # of Adam [paper, App. A]; control 1e-3, for both networks [TD3]
    batch_size: int = 32  # transitions in an update; control 128 [paper, App. A]
    buffer_size: int = 100_000  # transitions in the replay [ours: enough, 0.7 GB]; control 300,000
    gamma: float = 0.99  # discount factor [DQN, DDPG]
    n_step: int = 3  # steps of the return of the n-step algorithms; the others take 1 [Rainbow]
    train_frequency: int = 4  # agent steps per update [DQN]; control 1
    learning_starts: int = 10_000  # until the first update, and after --resume [baselines]; control 5,000
    target_network_frequency: int = 1_000  # Atari: agent steps between its updates [OpenAI baselines]
    end_e: float = 0.02  # Atari: epsilon from exploration_steps on [ours]
    exploration_steps: int = 100_000  # Atari: agent steps over which epsilon falls from 1 [ours]
    tau: float = 0.005  # control: how far an update moves the target networks [TD3]
    exploration_noise: float = 0.3  # control: sigma; 1 is half of the range [ours: 0.1 stalls on Hopper]
    atari = property(lambda self: self.algo.endswith("dqn"))  # or continuous control?

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


@torch.no_grad()
def soft_update(target: nn.Module, source: nn.Module, tau: float) -> None:
    """target <- (1 - tau) target + tau source, each parameter; no buffers (of a BatchNorm, say)."""
    torch._foreach_lerp_([*target.parameters()], [*source.parameters()], tau)  # one call for all: fastest

# ----------------------------------------------------------------------------------------------------- Replay
class UniformReplay:
    """A ring of time steps; row t holds what every environment saw and did at t, each frame once."""
    def __init__(self, rows: int, num_envs: int, env, seed: int):
        self.rows, self.num_envs, self.count, self.rng = rows, num_envs, 0, np.random.default_rng(seed)
        frames, actions = env.single_observation_space, env.single_action_space
        self.stack, self.data = frames.shape[0], np.zeros((rows, num_envs), [
            ("frame", frames.dtype, frames.shape[1:]), ("action", actions.dtype, actions.shape),
            ("reward", np.float32), ("terminated", bool), ("episode_step", np.int32),
            ("last", bool)])  # s_t is a game's last observation, no transition

    def add(self, *columns) -> None:
        """One time step of all environments: frames (num_envs, 84, 84), say, the others (num_envs, ...)."""
        for name, column in zip(self.data.dtype.names, columns):
            self.data[name][self.count % self.rows] = column
        self.count += 1

    def stacks(self, t: np.ndarray, e: np.ndarray) -> np.ndarray:
        """States (B, stack, ...) of environments e at times t; zeros before a game's first frame."""
        back = np.arange(self.stack)[::-1]
        frames = self.data["frame"][(t[:, None] - back) % self.rows, e[:, None]]
        frames[back > self.data["episode_step"][t % self.rows, e][:, None]] = 0
        return frames

    def sample(self, batch_size: int, n: int, gamma: float) -> tuple[np.ndarray, ...]:
        """states, actions, n-step returns, discounts, next_states: (B, stack, ...), (B, ...) the others."""
        low, high = max(0, self.count - self.rows + self.stack - 1), self.count - n
        t, e = self.rng.integers(low, high, batch_size), self.rng.integers(self.num_envs, size=batch_size)
        while (ended := self.data["last"][t % self.rows, e]).any():
            t[ended] = self.rng.integers(low, high, ended.sum())
        returns, discounts = np.zeros(batch_size, np.float32), np.zeros(batch_size, np.float32)
        k, open_ = np.zeros(batch_size, np.int64), np.ones(batch_size, bool)
        for i in range(n):  # a window is cut where a life is lost or a game ends
            now, after = self.data[(t + i) % self.rows, e], self.data["last"][(t + i + 1) % self.rows, e]
            returns += open_ * gamma**i * now["reward"]  # G_t = sum_i gamma^i R_{t+i+1}  (B,)
            discounts[open_] = gamma ** (i + 1) * ~now["terminated"][open_]  # 0 where nothing follows
            k += open_
            open_ &= ~(now["terminated"] | after)
        return (self.stacks(t, e), self.data["action"][t % self.rows, e], returns, discounts,
                self.stacks(t + k, e))


def play_and_store(args: Args, env, replay: UniformReplay, agent, step: int):
    """Steps all environments by the agent's actions; yields (step, unclipped returns of games that ended)."""
    states, _ = env.reset(seed=args.seed + step)
    life_lost, last = np.zeros(args.num_envs, bool), np.zeros(args.num_envs, bool)
    episode_steps, returns = np.zeros(args.num_envs, np.int32), np.zeros(args.num_envs)
    while True:
        actions = agent.act(states, step)
        if args.atari:
            actions[life_lost] = env.fire  # else a greedy agent waits for ever
        next_states, rewards, terminations, truncations, info = env.step(actions)
        learned = np.clip(rewards, -1, 1) if args.atari else rewards
        replay.add(states[:, -1], actions, learned, terminations, episode_steps, last)
        episode_steps = np.where(last, 0, episode_steps + 1)  # after a last state comes the next game's first
        life_lost = terminations & (info["lives"] > 0 if args.atari else False)
        last = ((terminations & ~life_lost) | truncations) & ~last
        returns += rewards
        step += args.num_envs
        yield step, returns[last].tolist()
        returns[last], states = 0, next_states

# ----------------------------------------------------------------------------------------------------- Agents
@torch.no_grad()
def dqn_target(algo: str, q_network, target_network, returns, discounts, next_states) -> torch.Tensor:
    """(B,): G_t + gamma^k q(s_{t+k}, a*; theta-); a* by theta- in DQN, by theta in double DQN."""
    next_q = target_network(next_states)  # (B, num_actions)
    chooser = next_q if algo == "dqn" else q_network(next_states)
    return returns + discounts * next_q.gather(1, chooser.argmax(1, keepdim=True)).squeeze(1)


@torch.no_grad()
def ddpg_target(algo: str, target_actor, target_critics, returns, discounts, next_states) -> torch.Tensor:
    """(B,): G_t + gamma^k q(s_{t+k}, pi(s_{t+k}; theta-); omega-)."""
    next_actions = target_actor(next_states)  # (B, action)
    if algo == "td3":  # clipped noise on the action, and the smaller of two critics [TD3, 4.2 and 5.3]
        noise = target_actor.scale * (0.2 * torch.randn_like(next_actions)).clamp(-0.5, 0.5)
        low, high = target_actor.centre - target_actor.scale, target_actor.centre + target_actor.scale
        next_actions = (next_actions + noise).clamp(low, high)  # within the bounds
    next_q = torch.stack([critic(next_states, next_actions) for critic in target_critics]).amin(0)
    return returns + discounts * next_q


class DQN:
    """dqn, double-dqn and n-step-double-dqn; `network` acts; `average`, over some 20,000 steps, ships."""
    def __init__(self, args: Args, env, device: torch.device):
        self.args, self.device, self.num_actions = args, device, env.single_action_space.n
        self.network = QNetwork(env).to(device, memory_format=torch.channels_last)
        self.target, self.average = deepcopy(self.network), deepcopy(self.network)
        self.optimizer = torch.optim.Adam(self.network.parameters(), lr=args.learning_rate, fused=True)
        self.parts = {name: getattr(self, name) for name in ("network", "target", "average", "optimizer")}
        self.rng, self.updates, self.copied = np.random.default_rng(args.seed), 0, math.inf

    def act(self, states: np.ndarray, step: int) -> np.ndarray:
        """Epsilon-greedy actions (num_envs,)."""
        epsilon = 1 + min(1.0, step / self.args.exploration_steps) * (self.args.end_e - 1)
        with torch.inference_mode():
            actions = self.network(torch.from_numpy(states).to(self.device)).argmax(1).cpu().numpy()
        random = self.rng.random(len(actions)) < epsilon
        actions[random] = self.rng.integers(self.num_actions, size=random.sum())
        return actions

    def update(self, batch, step: int) -> dict[str, torch.Tensor]:
        """One gradient step; the metrics, still on the device."""
        states, actions, returns, discounts, next_states = batch
        if step // self.args.target_network_frequency > self.copied:
            soft_update(self.target, self.network, 1.0)
        self.copied = step // self.args.target_network_frequency
        target = dqn_target(self.args.algo, self.network, self.target, returns, discounts, next_states)
        q_values = self.network(states).gather(1, actions.unsqueeze(1)).squeeze(1)  # q(s_t, a_t)  (B,)
        loss = 0.5 * (target - q_values).square().mean()
        self.optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(self.network.parameters(), 10.0)
        self.optimizer.step()
        self.updates += 1
        soft_update(self.average, self.network, max(AVERAGING, 10 / (10 + self.updates)))
        return {"losses/td_loss": loss.detach(), "losses/q_values": q_values.detach().mean()}


class DDPG:
    """ddpg, n-step-ddpg and td3; `network` acts and ships."""
    def __init__(self, args: Args, env, device: torch.device):
        self.args, self.device, self.bounds = args, device, env.single_action_space
        self.network = Actor(env).to(device)
        self.critics = nn.ModuleList(Critic(env) for _ in range(2 if args.algo == "td3" else 1)).to(device)
        self.target, self.target_critics = deepcopy(self.network), deepcopy(self.critics)
        self.optimizer = torch.optim.Adam(self.network.parameters(), lr=args.learning_rate, fused=True)
        self.critic_optimizer = torch.optim.Adam(self.critics.parameters(), lr=args.learning_rate, fused=True)
        self.parts = {name: getattr(self, name) for name in (
            "network", "target", "critics", "target_critics", "optimizer", "critic_optimizer")}
        self.average, self.rng, self.updates = self.network, np.random.default_rng(args.seed), 0

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
        target = ddpg_target(
            self.args.algo, self.target, self.target_critics, returns, discounts, next_states)
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
            soft_update(self.target, self.network, self.args.tau)
            soft_update(self.target_critics, self.critics, self.args.tau)
        return {"losses/td_loss": loss.detach(), "losses/q_values": q_values.detach().mean()}


def save_checkpoint(path: Path, checkpoint: dict) -> None:
    """Writes under a temporary name, then renames: whoever looks finds the old file or the new one, whole."""
    torch.save(checkpoint, whole := io.BytesIO())
    with open(path.with_suffix(".tmp"), "wb") as file:
        file.write(whole.getbuffer())
        file.flush()
        os.fsync(file.fileno())
    os.replace(path.with_suffix(".tmp"), path)


def load_state(path: Path, args: Args, agent, state: dict) -> None:
    """Fills agent and state from what an interrupted run left; exits with one line where they do not fit."""
    try:
        found = torch.load(path, map_location="cpu", weights_only=True)
        if (found["algo"], found["env_id"]) != (args.algo, args.env_id):
            raise ValueError("it is of another kind")
        for name, part in agent.parts.items():
            if "optimizer" in name:  # the learning rate may have been given anew
                found[name]["param_groups"] = part.state_dict()["param_groups"]
            part.load_state_dict(found[name])
            for tensor, own in getattr(part, "state", {}).items():  # of an optimizer: unchecked yet
                if len({(t.shape, t.stride()) for t in (tensor, own["exp_avg"], own["exp_avg_sq"])}) > 1:
                    raise ValueError("an optimizer has another shape")
        agent.updates = int(found["updates"])
        state.update({key: type(value)(found[key]) for key, value in state.items()})
    except Exception as error:
        sys.exit(f"error: cannot go on from {path}: {error!r:.150}; start without --resume")


def ship(args: Args, play, player: nn.Module, path: Path, header: dict, state: dict) -> None:
    """Writes the network that evaluated best as a prior, in half precision, with its own average return."""
    network = {name: tensor.half() for name, tensor in state["best_network"].items()}
    player.load_state_dict(network)  # rbar is of these
    returns = play(args.env_id, player, 20, 10_000 + args.seed)
    save_checkpoint(path, {**header, "network": network, "average_return": float(returns.mean()),
                           "episodes": 20, "global_step": state["best_step"]})
    print(f"{path}: {returns.mean():.2f} +- {returns.std():.2f} over 20 greedy games")

# ------------------------------------------------------------------------------------------------------- Main
def parse() -> Args:
    """The settings from the command line; continuous control has defaults of its own."""
    args = tyro.cli(Args)
    return args if args.atari else tyro.cli(Args, default=Args(algo=args.algo, **CONTROL))


def check(args: Args, path: Path) -> None:
    """Refuses settings that cannot work, and a path that cannot be written, each in one line."""
    for name, default in vars(Args()).items():
        low = int(type(default) is int and name != "seed")
        high = 1 if name in ("gamma", "tau", "end_e") else 2 * 10**9
        if type(default) in (int, float) and default < math.inf and not low <= getattr(args, name) <= high:
            sys.exit(f"error: --{name.replace('_', '-')} must be from {low} to {high}")
    path.parent.mkdir(parents=True, exist_ok=True)
    for wrong, message in (
        (args.learning_starts >= args.total_timesteps, "--learning-starts must be below --total-timesteps"),
        (args.buffer_size < args.num_envs * (args.n_step + 8), "--buffer-size is too small for --num-envs"),
        (path.exists() and not args.replace, f"{path} is there; --replace it, or take another --prior-dir"),
        (not os.access(path.parent, os.W_OK), f"cannot write to {path.parent}"),
    ):
        if wrong:
            sys.exit(f"error: {message}")


def main(args: Args) -> None:
    """Acts, stores and learns in turn; keeps the network that evaluated best; measures and ships it."""
    prior = Path(args.prior_dir) / args.env_id / f"{args.algo}.pt"
    device = torch.device("cuda" if args.cuda and torch.cuda.is_available() else "cpu")
    torch.manual_seed(args.seed)
    if not args.atari:
        torch.set_num_threads(1)  # small networks are slower on more
    check(args, prior)
    env = (make_atari if args.atari else make_control)(args.env_id, args.num_envs)
    agent = (DQN if args.atari else DDPG)(args, env, device)
    play, player = (play_atari, QNetwork(env)) if args.atari else (play_control, Actor(env))
    n = args.n_step if args.algo.startswith("n-step") else 1
    run = Path("runs") / f"{args.env_id.replace('/', '-')}__{args.algo}__{args.seed}"
    header = {"format": CHECKPOINT_FORMAT, "algo": args.algo, "env_id": args.env_id}
    state = {"global_step": 0, "best": -math.inf, "best_step": 0, "best_network": player.state_dict()}
    if args.resume:
        load_state(run / "resume.pt", args, agent, state)
    elif (run / "resume.pt").exists():
        sys.exit(f"error: {run} holds a training already; go on with --resume, or move it away")
    step = first_step = state["global_step"]
    threading.excepthook = lambda _: None  # what fails in TensorBoard's thread, our next call raises too
    writer = SummaryWriter(run, purge_step=step + 1 if args.resume else None)
    replay = UniformReplay(args.buffer_size // args.num_envs, args.num_envs, env, args.seed)
    metrics, stop, saved, logged = {}, [], time.time(), (time.time(), step)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda number, frame: stop.append(number))
    for step, ended in play_and_store(args, env, replay, agent, step):
        before, state["global_step"] = step - args.num_envs, step
        for game_return in ended:
            writer.add_scalar("charts/episodic_return", game_return, step)
        if step - first_step > max(args.learning_starts, n * args.num_envs):
            for _ in range(step // args.train_frequency - before // args.train_frequency):
                batch = replay.sample(args.batch_size, n, args.gamma)
                metrics = agent.update([torch.from_numpy(array).to(device) for array in batch], step)
        if step // args.eval_frequency > before // args.eval_frequency or step >= args.total_timesteps:
            player.load_state_dict(agent.average.state_dict())
            returns = play(args.env_id, player, args.eval_episodes, 20_000 + step)
            writer.add_scalar("charts/eval_return", returns.mean(), step)
            writer.add_scalar("charts/eval_return_std", returns.std(), step)
            print(f"step {step:,}: greedy return {returns.mean():.2f} +- {returns.std():.2f}", flush=True)
            if returns.mean() > state["best"]:
                state.update(best=float(returns.mean()), best_step=step)
                state["best_network"] = deepcopy(player.state_dict())
        now = time.time()
        if now - logged[0] > 10:
            sps, logged = (step - logged[1]) / (now - logged[0]), (now, step)
            for name, value in {"charts/SPS": sps, **metrics}.items():
                writer.add_scalar(name, float(value), step)
            print(f"step {step:,} of {args.total_timesteps:,} | {sps:.0f} steps/s | best {state['best']:g} | "
                  f"{(args.total_timesteps - step) / sps / 60:.0f} min left", flush=True)
        done = step >= args.total_timesteps or state["best"] >= args.target_return or bool(stop)
        if done or now - saved > 120:
            if not all(tensor.isfinite().all() for tensor in agent.network.parameters()):
                sys.exit(f"error: the weights are not finite, by step {step:,}; lower --learning-rate")
            parts, saved = {name: part.state_dict() for name, part in agent.parts.items()}, now
            save_checkpoint(run / "resume.pt", {**header, **state, **parts, "updates": agent.updates})
        if done:
            break
    writer.close()
    if stop:
        print(f"stopped at step {step:,}; go on with the same flags and --resume")
        sys.exit(128 + stop[0])
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_DFL)
    ship(args, play, player, prior, header, state)


if __name__ == "__main__":
    try:
        main(parse())
    except (OSError, MemoryError, KeyboardInterrupt) as end:  # a full disk, say; Ctrl-C before a save
        sys.exit(f"error: ended by {end!r}; what was saved before is intact")
