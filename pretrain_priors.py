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
here `dqn`, `double-dqn` and `n-step-double-dqn`, of one network architecture, trained in one process.

    several environments, stepped together  -->  UniformReplay  -->  update  -->  q_network
                 ^                                                                    |
                 +----------------------- epsilon-greedy actions ---------------------+

    python pretrain_priors.py --env-id PongNoFrameskip-v4 --bf16                         # 20 on Pong: 40 min
    python pretrain_priors.py --env-id PongNoFrameskip-v4 --algo dqn --target-return 12  # weaker, sooner
    python pretrain_priors.py --env-id PongNoFrameskip-v4 --algo dqn --resume            # goes on

The result is priors/<env_id>/<algo>.pt. Read `td_target` first (all that tells the three apart), then `main`.
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


# ------------------------------------------------------------------------------------------------------- Args
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


def make_env(env_id: str, num_envs: int = 1, gray: bool = True) -> tuple[AtariVectorEnv, int, int | None]:
    """Atari as App. A has it, states (num_envs, 4, 84, 84); its number of actions; the index of FIRE, if any.

    `terminated` is true at every lost life (Deviation 18): the game is over when no lives are left, and may
    wait for FIRE before. The step after a game's end ignores its action and returns the next game's start.
    """
    game, sticky = atari_game(env_id)
    size = {} if gray else {"img_height": 210, "img_width": 160, "stack_num": 1}
    env = AtariVectorEnv(  # frame skip 4 and up to 30 no-ops are its defaults
        game, num_envs, num_threads=1, repeat_action_probability=sticky, reward_clipping=False,
        life_loss_info=True, grayscale=gray, **size)
    buttons = list(env.ale.get_action_set())
    fire = buttons.index(ale_py.Action.FIRE) if ale_py.Action.FIRE in buttons else None
    return env, len(buttons), fire


# --------------------------------------------------------------------------------------------------- Networks
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
        return self.network(states.contiguous(memory_format=torch.channels_last) / 255.0)  # fastest on a CPU


def play_games(env_id: str, q_network: QNetwork, games: int, seed: int, film: list | None = None):
    """Unclipped returns (games,) of full games played side by side, greedy but for an epsilon of 0.001.

    film collects the first game's screens: a second environment in colour, same seed and actions, keeps step.
    """
    (env, num_actions, fire), rng = make_env(env_id, games), np.random.default_rng(seed)
    states, _ = env.reset(seed=seed)
    returns, playing, life_lost = np.zeros(games), np.ones(games, bool), np.zeros(games, bool)
    if film is not None:
        colour = make_env(env_id, gray=False)[0]
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


# ----------------------------------------------------------------------------------------------------- Replay
class UniformReplay:
    """A ring of time steps; row t holds what every environment saw and did at t, each frame once.

    A game's last observation takes a place of its own (`last`): its action was ignored, it is no transition.
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

    def sample(self, batch_size: int, n: int, gamma: float) -> tuple[np.ndarray, ...]:
        """states, actions, n-step returns, discounts, next_states: (B, 4, 84, 84) states, (B,) the others."""
        low, high = max(0, self.count - self.rows + 3), self.count - n
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
    """The environments, stepped together by epsilon-greedy actions, each step stored in the replay."""

    def __init__(self, args: Args, replay: UniformReplay, seed: int):
        self.env, self.num_actions, self.fire = make_env(args.env_id, args.num_envs)
        self.replay, self.rng = replay, np.random.default_rng(seed)
        self.states, _ = self.env.reset(seed=seed)
        self.life_lost, self.last = np.zeros(args.num_envs, bool), np.zeros(args.num_envs, bool)
        self.ages, self.returns = np.zeros(args.num_envs, np.int64), np.zeros(args.num_envs)

    def step(self, q_network: QNetwork, epsilon: float, device: torch.device) -> list[float]:
        """One step of every environment; the unclipped returns of the games that it ended."""
        with torch.inference_mode():
            actions = q_network(torch.from_numpy(self.states).to(device)).argmax(1).cpu().numpy()
        random = self.rng.random(len(actions)) < epsilon
        actions[random] = self.rng.integers(self.num_actions, size=random.sum())
        if self.fire is not None:
            actions[self.life_lost] = self.fire
        next_states, rewards, terminations, truncations, info = self.env.step(actions)
        clipped = np.clip(rewards, -1, 1)
        self.replay.add(self.states[:, -1], actions, clipped, terminations, self.ages, self.last)
        self.returns += rewards
        self.ages = np.where(self.last, 0, self.ages + 1)  # then comes the next game's first
        self.life_lost = terminations & (info["lives"] > 0)
        self.last = ((terminations & ~self.life_lost) | truncations) & ~self.last
        ended = self.returns[self.last].tolist()
        self.returns[self.last] = 0
        self.states = next_states
        return ended


# ---------------------------------------------------------------------------------------------------- Learner
def td_target(algo: str, q_network, target_network, returns, next_states, discounts) -> torch.Tensor:
    """(B,): G_t + gamma^k q(s_{t+k}, a*; theta-); a* by theta- in DQN, by theta in double DQN."""
    next_q = target_network(next_states)  # (B, num_actions)
    chooser = next_q if algo == "dqn" else q_network(next_states)
    return returns + discounts * next_q.gather(1, chooser.argmax(1, keepdim=True)).squeeze(1)


def update(args: Args, q_network, target_network, optimizer, batch) -> tuple[torch.Tensor, torch.Tensor]:
    """One gradient step; returns the loss and the mean q(s_t, a_t), still on the device."""
    states, actions, returns, discounts, next_states = batch
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


def cpu_copy(network: QNetwork, dtype=torch.float32) -> dict:
    """The network's tensors, copied to the CPU."""
    return {name: tensor.to("cpu", dtype, copy=True) for name, tensor in network.state_dict().items()}


def greedy_returns(args: Args, num_actions: int, network: dict, games: int, seed: int) -> np.ndarray:
    """Unclipped returns of full greedy games, as the evaluator of CA2E measures them."""
    q_network = QNetwork(num_actions)
    q_network.load_state_dict(network)
    return play_games(args.env_id, q_network, games, seed)


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


def main(args: Args) -> None:
    """Acts, stores and learns in turn; keeps the network that evaluated best; measures and ships it."""
    device = torch.device("cuda" if args.cuda and torch.cuda.is_available() else "cpu")
    torch.manual_seed(args.seed)
    num_actions = make_env(args.env_id)[1]
    q_network, target_network = QNetwork(num_actions), QNetwork(num_actions)
    target_network.load_state_dict(q_network.state_dict())
    for network in (q_network, target_network):
        network.to(device, memory_format=torch.channels_last)
    optimizer = torch.optim.Adam(q_network.parameters(), lr=args.learning_rate, fused=True)
    n = args.n_step if args.algo == "n-step-double-dqn" else 1

    run = Path("runs") / f"{args.env_id.replace('/', '-')}__{args.algo}__{args.seed}"
    header = {"format": CHECKPOINT_FORMAT, "algo": args.algo, "env_id": args.env_id}
    state = {"global_step": 0, "best": -float("inf"), "best_network": cpu_copy(q_network), "best_step": 0}
    if args.resume:
        found = load_state(run / "resume.pt", args)
        state = {key: found[key] for key in state}
        for name, part in (("network", q_network), ("target", target_network), ("optimizer", optimizer)):
            part.load_state_dict(found[name])
    step = first_step = state["global_step"]
    writer = SummaryWriter(run, purge_step=step + 1 if args.resume else None)

    def save() -> None:
        save_checkpoint(run / "resume.pt", {
            **header, **state, "network": q_network.state_dict(), "target": target_network.state_dict(),
            "optimizer": optimizer.state_dict()})

    replay = UniformReplay(args.buffer_size // args.num_envs, args.num_envs, args.seed)
    player = Player(args, replay, args.seed + step)
    stop, start, saved, losses = [], time.time(), time.time(), ()
    for signum in (signal.SIGINT, signal.SIGTERM):
        signal.signal(signum, lambda number, frame: stop.append(number))

    while step < args.total_timesteps and state["best"] < args.target_return and not stop:
        epsilon = args.start_e + min(1.0, step / args.exploration_steps) * (args.end_e - args.start_e)
        for game_return in player.step(q_network, epsilon, device):
            writer.add_scalar("charts/episodic_return", game_return, step)
        before, step = step, step + args.num_envs
        state["global_step"] = step

        def due(every: int) -> int:
            return step // every - before // every

        if step - first_step <= args.learning_starts:
            continue
        for _ in range(due(args.train_frequency)):
            batch = replay.sample(args.batch_size, n, args.gamma)
            batch = [torch.from_numpy(array).to(device) for array in batch]
            losses = update(args, q_network, target_network, optimizer, batch)
        if due(args.target_network_frequency):
            target_network.load_state_dict(q_network.state_dict())
        if due(1000) and losses:
            sps = (step - first_step) / (time.time() - start)
            for name, value in (("losses/td_loss", losses[0].item()), ("losses/q_values", losses[1].item()),
                                ("charts/SPS", sps), ("charts/epsilon", epsilon)):
                writer.add_scalar(name, value, step)
            print(f"step {step:,} of {args.total_timesteps:,} | {sps:.0f} steps/s | epsilon {epsilon:.2f} | "
                  f"best {state['best']:g} | {(args.total_timesteps - step) / sps / 60:.0f} min left",
                  flush=True)
        if due(args.eval_frequency):
            network = cpu_copy(q_network)
            returns = greedy_returns(args, num_actions, network, args.eval_episodes, 20_000 + step)
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
        print(f"stopped at step {step:,}; go on with --resume")
        sys.exit(128 + stop[0])
    network = {name: tensor.half() for name, tensor in state["best_network"].items()}  # rbar is of these
    returns = greedy_returns(args, num_actions, network, 20, 10_000 + args.seed)
    path = Path(args.prior_dir) / args.env_id / f"{args.algo}.pt"
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.exists() and torch.load(path, weights_only=True)["average_return"] > returns.mean():
        sys.exit(f"error: {path} is better than this one's {returns.mean():.2f} and stays; write this one by "
                 "--resume and another --prior-dir")
    save_checkpoint(path, {**header, "network": network, "average_return": float(returns.mean()),
                           "episodes": 20, "global_step": state["best_step"]})
    print(f"{path}: {returns.mean():.2f} +- {returns.std():.2f} over 20 greedy games, "
          f"from step {state['best_step']:,}")


if __name__ == "__main__":
    main(tyro.cli(Args))
