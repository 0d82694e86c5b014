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

CA2E (Bai et al., "Compound Asynchronous Exploration and Exploitation") lets trained baseline agents, the prior actors,
play beside exploring ones. The paper took its three priors from "different pre-training DQN algorithms"; this script
trains them: `dqn`, `double-dqn` and `n-step-double-dqn`, one network architecture, one process, uniform replay.

    several environments, stepped together  -->  UniformReplay (each frame once)  -->  update  -->  q_network
                 ^                                                                                      |
                 +------------------------- epsilon-greedy actions -------------------------------------+

    python pretrain_priors.py --env-id PongNoFrameskip-v4 --algo n-step-double-dqn
    python pretrain_priors.py --env-id PongNoFrameskip-v4 --algo dqn --target-return 12    # a weaker prior, sooner
    python pretrain_priors.py --env-id PongNoFrameskip-v4 --algo dqn --resume              # after an interruption

The result is priors/<env_id>/<algo>.pt. Read `update` first (the three algorithms differ in two lines), then `main`.
"""

import os
import signal
import sys
import time
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
from torch.utils.tensorboard import SummaryWriter

CHECKPOINT_FORMAT = 1


# ------------------------------------------------------------------------------------------------------------- Args
@dataclass
class Args:
    # Run
    env_id: str = "PongNoFrameskip-v4"
    """the game, as gymnasium registers it"""
    algo: Literal["dqn", "double-dqn", "n-step-double-dqn"] = "n-step-double-dqn"
    """the baseline algorithm [ours: the paper says "different pre-training DQN algorithms"]"""
    seed: int = 1
    """seed of the environments, the exploration and the sampling"""
    cuda: bool = True
    """learn on the GPU where there is one"""
    bf16: bool = False
    """compute the networks in bfloat16 (about 1.5 times as fast on a CPU that has AVX512-BF16) [ours]"""
    prior_dir: str = "priors"
    """the checkpoint goes to <prior_dir>/<env_id>/<algo>.pt"""
    total_timesteps: int = 500_000
    """agent steps (4 frames each), of all environments together"""
    target_return: float = float("inf")
    """stop early, once a greedy evaluation averages this much"""
    eval_frequency: int = 25_000
    """agent steps between greedy evaluations"""
    eval_episodes: int = 5
    """games of each evaluation; the checkpoint's own average is always taken over 20"""
    resume: bool = False
    """go on from the last state of the same env_id, algo and seed; the replay is filled anew"""

    # Baseline agent
    num_envs: int = 8
    """environments stepped together, so that they share one forward pass"""
    learning_rate: float = 1e-4
    """of Adam [paper, App. A]"""
    batch_size: int = 32
    """transitions in an update [paper, App. A]"""
    buffer_size: int = 100_000
    """transitions in the replay [ours: enough for a prior, 0.7 GB]"""
    gamma: float = 0.99
    """discount factor [DQN]"""
    n_step: int = 3
    """steps of the return of n-step-double-dqn; the others take 1 [Rainbow]"""
    train_frequency: int = 4
    """agent steps per update [DQN]"""
    target_network_frequency: int = 1_000
    """agent steps between copies to the target network [OpenAI baselines deepq]"""
    learning_starts: int = 10_000
    """agent steps before the first update [OpenAI baselines deepq]"""
    start_e: float = 1.0
    """epsilon at the first step [DQN]"""
    end_e: float = 0.02
    """epsilon from exploration_steps on [ours]"""
    exploration_steps: int = 100_000
    """agent steps over which epsilon falls [OpenAI baselines deepq]"""


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


# ----------------------------------------------------------------------------------------------------------- Replay
class UniformReplay:
    """A ring of time steps; row t holds what every environment saw and did at t, each frame once.

    A game's last observation takes a row entry of its own (`last`), whose action was ignored: it is no transition.
    """

    def __init__(self, rows: int, num_envs: int, seed: int):
        self.rows, self.num_envs, self.count, self.rng = rows, num_envs, 0, np.random.default_rng(seed)
        self.frames = np.zeros((rows, num_envs, 84, 84), np.uint8)
        self.actions = np.zeros((rows, num_envs), np.int64)
        self.rewards = np.zeros((rows, num_envs), np.float32)  # R_{t+1}, clipped
        self.terminations = np.zeros((rows, num_envs), bool)  # of s_{t+1}: a life or the game is lost
        self.ages = np.zeros((rows, num_envs), np.int64)  # steps since the game's first frame
        self.last = np.zeros((rows, num_envs), bool)  # s_t is the game's last observation

    def add(self, frames, actions, rewards, terminations, ages, last) -> None:
        """One time step of all environments: (num_envs, 84, 84), then (num_envs,) each."""
        row = self.count % self.rows
        self.frames[row], self.actions[row], self.rewards[row] = frames, actions, rewards
        self.terminations[row], self.ages[row], self.last[row] = terminations, ages, last
        self.count += 1

    def stacks(self, t: np.ndarray, e: np.ndarray) -> np.ndarray:
        """States (B, 4, 84, 84) of environments e at times t; zeros before a game's first frame."""
        back = np.arange(3, -1, -1)
        frames = self.frames[(t[:, None] - back) % self.rows, e[:, None]]
        frames[back > self.ages[t % self.rows, e][:, None]] = 0
        return frames

    def sample(self, batch_size: int, n: int, gamma: float):
        """(s_t, a_t, n-step return, s_{t+k}, gamma^k or 0): (B, 4, 84, 84), (B,), (B,), (B, 4, 84, 84), (B,)."""
        low, high = max(0, self.count - self.rows + 3), self.count - n
        t = self.rng.integers(low, high, batch_size)
        e = self.rng.integers(self.num_envs, size=batch_size)
        while (ended := self.last[t % self.rows, e]).any():
            t[ended] = self.rng.integers(low, high, ended.sum())
        returns, discounts = np.zeros(batch_size, np.float32), np.zeros(batch_size, np.float32)
        k, open_ = np.zeros(batch_size, np.int64), np.ones(batch_size, bool)  # a window is cut where a life or game ends
        for i in range(n):
            row, after = (t + i) % self.rows, (t + i + 1) % self.rows
            returns += open_ * gamma**i * self.rewards[row, e]  # G_t = sum_i gamma^i R_{t+i+1}  (B,)
            discounts = np.where(open_, gamma ** (i + 1) * ~self.terminations[row, e], discounts).astype(np.float32)
            k += open_
            open_ &= ~(self.terminations[row, e] | self.last[after, e])
        return self.stacks(t, e), self.actions[t % self.rows, e], returns, self.stacks(t + k, e), discounts


# ---------------------------------------------------------------------------------------------------------- Learner
def td_target(algo: str, q_network, target_network, returns, next_states, discounts) -> torch.Tensor:
    """(B,): G_t + gamma^k q(s_{t+k}, a*; theta-); a* by theta- in DQN, by theta in double DQN."""
    next_q = target_network(next_states)  # (B, num_actions)
    chooser = next_q if algo == "dqn" else q_network(next_states)
    return returns + discounts * next_q.gather(1, chooser.argmax(1, keepdim=True)).squeeze(1)


def update(args: Args, q_network, target_network, optimizer, batch) -> tuple[torch.Tensor, torch.Tensor]:
    """One gradient step; returns the loss and the mean q(s_t, a_t), still on the device."""
    states, actions, returns, next_states, discounts = batch
    with torch.autocast(states.device.type, torch.bfloat16, enabled=args.bf16):
        with torch.no_grad():
            target = td_target(args.algo, q_network, target_network, returns, next_states, discounts)
        q_values = q_network(states).gather(1, actions.unsqueeze(1)).squeeze(1)  # q(s_t, a_t; theta)  (B,)
    loss = 0.5 * (target.float() - q_values.float()).square().mean()
    optimizer.zero_grad()
    loss.backward()
    nn.utils.clip_grad_norm_(q_network.parameters(), 10.0)
    optimizer.step()
    return loss.detach(), q_values.detach().mean()


def save(path: Path, checkpoint: dict) -> None:
    """Writes under a temporary name, then renames: whoever looks finds the old file or the new one, whole."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(".tmp")
    with open(temporary, "wb") as file:
        torch.save(checkpoint, file)
        file.flush()
        os.fsync(file.fileno())
    os.replace(temporary, path)


def write_prior(args: Args, path: Path, network: dict, global_step: int, num_actions: int) -> float:
    """Stores the network in float16 and, with it, r-bar: the average return of 20 games played from what is stored."""
    network = {name: tensor.half() for name, tensor in network.items()}
    q_network = QNetwork(num_actions)
    q_network.load_state_dict(network)
    average_return = float(play_games(args.env_id, q_network, 20, seed=10_000 + args.seed).mean())
    save(path, {"format": CHECKPOINT_FORMAT, "algo": args.algo, "env_id": args.env_id, "network": network,
                "average_return": average_return, "episodes": 20, "global_step": global_step})
    return average_return


def main(args: Args) -> None:
    """Acts, stores and learns in turn; keeps the network that evaluated best; measures it and ships it."""
    device = torch.device("cuda" if args.cuda and torch.cuda.is_available() else "cpu")
    torch.manual_seed(args.seed)
    rng = np.random.default_rng(args.seed)
    env = make_env(args.env_id, args.num_envs)
    num_actions, fire = int(env.single_action_space.n), fire_action(env)
    q_network, target_network = QNetwork(num_actions), QNetwork(num_actions)
    target_network.load_state_dict(q_network.state_dict())
    q_network, target_network = (net.to(device, memory_format=torch.channels_last) for net in (q_network, target_network))
    optimizer = torch.optim.Adam(q_network.parameters(), lr=args.learning_rate, fused=True)
    n = args.n_step if args.algo == "n-step-double-dqn" else 1

    run = Path("runs") / f"{args.env_id}__{args.algo}__{args.seed}"
    state_path, prior_path = run / "resume.pt", Path(args.prior_dir) / args.env_id / f"{args.algo}.pt"
    global_step, best, best_network, best_step = 0, -float("inf"), None, 0
    if args.resume:
        state = torch.load(state_path, map_location=device, weights_only=True)
        q_network.load_state_dict(state["network"])
        target_network.load_state_dict(state["target"])
        optimizer.load_state_dict(state["optimizer"])
        global_step, best, best_network, best_step = (state[k] for k in ("global_step", "best", "best_network", "best_step"))
    first_step = global_step
    writer = SummaryWriter(run, purge_step=global_step + 1 if args.resume else None)

    def save_state() -> None:
        save(state_path, {"format": CHECKPOINT_FORMAT, "algo": args.algo, "env_id": args.env_id,
                          "network": q_network.state_dict(), "target": target_network.state_dict(),
                          "optimizer": optimizer.state_dict(), "global_step": global_step, "best": best,
                          "best_network": best_network, "best_step": best_step})

    rb = UniformReplay(args.buffer_size // args.num_envs, args.num_envs, args.seed)
    states, info = env.reset(seed=args.seed + global_step)
    life_lost, last = np.zeros(args.num_envs, bool), np.zeros(args.num_envs, bool)
    ages, game_returns = np.zeros(args.num_envs, np.int64), np.zeros(args.num_envs)
    start_time = saved_at = time.time()
    losses = None
    stop = []
    for signum in (signal.SIGINT, signal.SIGTERM):
        signal.signal(signum, lambda number, frame: stop.append(number))
    while global_step < args.total_timesteps and best < args.target_return and not stop:
        # act: epsilon-greedy, all environments in one forward pass
        fraction = min(1.0, global_step / args.exploration_steps)
        epsilon = args.start_e + fraction * (args.end_e - args.start_e)
        actions = rng.integers(num_actions, size=args.num_envs)
        greedy = rng.random(args.num_envs) >= epsilon
        with torch.inference_mode():
            q = q_network(torch.from_numpy(states).to(device)).argmax(1).cpu().numpy()
        actions = np.where(greedy, q, actions)
        if fire is not None:
            actions[life_lost] = fire
        next_states, rewards, terminations, truncations, info = env.step(actions)
        rb.add(states[:, -1], actions, np.clip(rewards, -1, 1), terminations, ages, last)
        game_returns += rewards
        ages = np.where(last, 0, ages + 1)  # where the game had ended, this step returned the next game's first frame
        last = ((terminations & (info["lives"] == 0)) | truncations) & ~last
        life_lost = terminations & (info["lives"] > 0)
        for game_return in game_returns[last]:
            writer.add_scalar("charts/episodic_return", game_return, global_step)
        game_returns[last] = 0
        states = next_states
        before, global_step = global_step, global_step + args.num_envs

        # learn
        if global_step - first_step > args.learning_starts:
            for _ in range(global_step // args.train_frequency - before // args.train_frequency):
                batch = [torch.from_numpy(array).to(device) for array in rb.sample(args.batch_size, n, args.gamma)]
                losses = update(args, q_network, target_network, optimizer, batch)
            if global_step // args.target_network_frequency > before // args.target_network_frequency:
                target_network.load_state_dict(q_network.state_dict())

        # evaluate, log, save
        if losses is not None and global_step // 1000 > before // 1000:
            sps = (global_step - first_step) / (time.time() - start_time)
            for name, value in zip(("losses/td_loss", "losses/q_values"), losses):
                writer.add_scalar(name, value.item(), global_step)
            writer.add_scalar("charts/SPS", sps, global_step)
            writer.add_scalar("charts/epsilon", epsilon, global_step)
            print(f"step {global_step:,}/{args.total_timesteps:,} | {sps:.0f} steps/s | epsilon {epsilon:.2f} | best {best:g}",
                  flush=True)
        if losses is not None and global_step // args.eval_frequency > before // args.eval_frequency:
            network = {name: tensor.detach().cpu().clone() for name, tensor in q_network.state_dict().items()}
            judge = QNetwork(num_actions)
            judge.load_state_dict(network)
            returns = play_games(args.env_id, judge, args.eval_episodes, seed=20_000 + global_step)
            writer.add_scalar("charts/eval_return", returns.mean(), global_step)
            writer.add_scalar("charts/eval_return_std", returns.std(), global_step)
            print(f"step {global_step:,}: greedy return {returns.mean():.2f} +- {returns.std():.2f}", flush=True)
            if returns.mean() > best:
                best, best_network, best_step = float(returns.mean()), network, global_step
        if time.time() - saved_at > 120:
            save_state()
            saved_at = time.time()

    save_state()
    writer.close()
    env.close()
    if stop:
        print(f"interrupted at step {global_step:,}; add --resume to go on")
        sys.exit(128 + stop[0])
    average_return = write_prior(args, prior_path, best_network, best_step, num_actions)
    print(f"{prior_path}: {average_return:.2f} over 20 games, from step {best_step:,}")


if __name__ == "__main__":
    main(tyro.cli(Args))
