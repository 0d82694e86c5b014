"""What a user would pick instead, for speed.py to time: each in a process of its own, same networks, same settings.

    python benchmark/others.py sb3_dqn THREADS SECONDS     # steps/s of stable-baselines3's DQN on Pong, once it learns
    python benchmark/others.py sb3_ddpg THREADS SECONDS    # of its DDPG on Hopper-v5
    python benchmark/others.py cleanrl_dqn THREADS SECONDS # of CleanRL's dqn_atari loop, for gymnasium 1.x
    python benchmark/others.py torchrl SLOTS               # torchrl's prioritized replay, as JSON
"""

import json
import random
import sys
import time

import gymnasium as gym
import numpy as np
import torch
import torch.nn as nn

START = 1200  # steps before the clock starts; learning starts at 1,000


def dqn_layers():
    """The scripts' own network, up to its last layer."""
    return nn.Sequential(
        nn.Conv2d(4, 32, 8, stride=4), nn.ReLU(), nn.Conv2d(32, 64, 4, stride=2), nn.ReLU(),
        nn.Conv2d(64, 64, 3), nn.ReLU(), nn.Flatten(), nn.Linear(3136, 512), nn.LayerNorm(512), nn.ReLU())


def learn(model, seconds):
    """Trains a stable-baselines3 model; steps/s from START on."""
    from stable_baselines3.common.callbacks import BaseCallback

    class Clock(BaseCallback):
        start = None

        def _on_step(self):
            if self.num_timesteps == START:
                self.start = time.time()
            return self.start is None or time.time() - self.start < seconds

    clock = Clock()
    model.learn(10**7, callback=clock)
    return (model.num_timesteps - START) / (time.time() - clock.start)


def sb3_dqn(seconds):
    """stable-baselines3 DQN on Pong."""
    import ale_py
    from stable_baselines3 import DQN
    from stable_baselines3.common.env_util import make_atari_env
    from stable_baselines3.common.torch_layers import BaseFeaturesExtractor
    from stable_baselines3.common.vec_env import VecFrameStack

    class Features(BaseFeaturesExtractor):
        def __init__(self, space):
            super().__init__(space, 512)
            self.layers = dqn_layers()

        def forward(self, states):
            return self.layers(states)

    gym.register_envs(ale_py)
    env = VecFrameStack(make_atari_env("PongNoFrameskip-v4", n_envs=1, seed=1), 4)
    return learn(DQN("CnnPolicy", env, learning_rate=1e-4, buffer_size=20_000, learning_starts=1000, batch_size=32,
                     train_freq=4, gradient_steps=1, target_update_interval=10_000, exploration_fraction=1e-9,
                     exploration_final_eps=0.1, device="cpu",
                     policy_kwargs=dict(features_extractor_class=Features, net_arch=[])), seconds)


def sb3_ddpg(seconds):
    """stable-baselines3 DDPG on Hopper-v5, with layer norm in its networks."""
    import stable_baselines3.common.policies as common
    import stable_baselines3.td3.policies as policies
    from stable_baselines3 import DDPG
    from stable_baselines3.common.noise import NormalActionNoise

    def mlp(inputs, outputs, net_arch, activation_fn=nn.ReLU, squash_output=False, *_, **__):
        layers, size = [], inputs
        for units in net_arch:
            layers += [nn.Linear(size, units), nn.LayerNorm(units), nn.ReLU()]
            size = units
        layers += [nn.Linear(size, outputs)] if outputs > 0 else []
        return layers + ([nn.Tanh()] if squash_output else [])

    policies.create_mlp = common.create_mlp = mlp
    model = DDPG("MlpPolicy", gym.make("Hopper-v5"), learning_rate=1e-3, buffer_size=100_000, learning_starts=1000,
                 batch_size=128, train_freq=1, gradient_steps=1, tau=1e-3, policy_kwargs=dict(net_arch=[64, 64]),
                 action_noise=NormalActionNoise(np.zeros(3), 0.1 * np.ones(3)), device="cpu")
    assert sum(isinstance(layer, nn.LayerNorm) for layer in model.policy.modules()) == 8, model.policy
    return learn(model, seconds)


def cleanrl_dqn(seconds):
    """The loop of CleanRL's dqn_atari.py, with its wrappers, buffer and update, for gymnasium 1.x."""
    import ale_py
    from stable_baselines3.common.atari_wrappers import (
        ClipRewardEnv, EpisodicLifeEnv, FireResetEnv, MaxAndSkipEnv, NoopResetEnv)
    from stable_baselines3.common.buffers import ReplayBuffer

    gym.register_envs(ale_py)
    env = NoopResetEnv(gym.make("PongNoFrameskip-v4"), noop_max=30)
    env = ClipRewardEnv(FireResetEnv(EpisodicLifeEnv(MaxAndSkipEnv(env, skip=4))))
    env = gym.wrappers.GrayscaleObservation(gym.wrappers.ResizeObservation(env, (84, 84)))
    env = gym.wrappers.FrameStackObservation(env, 4)
    networks = [nn.Sequential(dqn_layers(), nn.Linear(512, int(env.action_space.n))) for _ in range(2)]
    q_network, target_network = networks
    target_network.load_state_dict(q_network.state_dict())
    optimizer = torch.optim.Adam(q_network.parameters(), lr=1e-4)
    buffer = ReplayBuffer(20_000, env.observation_space, env.action_space, "cpu", optimize_memory_usage=True,
                          handle_timeout_termination=False)
    obs, _ = env.reset(seed=1)
    global_step, start = 0, None
    while start is None or time.time() - start < seconds:
        global_step += 1
        if random.random() < 0.1:
            action = env.action_space.sample()
        else:
            action = int(torch.argmax(q_network(torch.Tensor(np.array(obs)[None]) / 255.0), dim=1)[0])
        next_obs, reward, termination, truncation, info = env.step(action)
        buffer.add(np.array(obs), np.array(next_obs), np.array([action]), np.array([reward]), np.array([termination]),
                   [info])
        obs = env.reset()[0] if termination or truncation else next_obs
        if global_step > 1000 and global_step % 4 == 0:
            data = buffer.sample(32)
            with torch.no_grad():
                target_max, _ = target_network(data.next_observations / 255.0).max(dim=1)
                td_target = data.rewards.flatten() + 0.99 * target_max * (1 - data.dones.flatten())
            old_val = q_network(data.observations / 255.0).gather(1, data.actions).squeeze()
            loss = nn.functional.mse_loss(td_target, old_val)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        if global_step == START:
            start = time.time()
    return (global_step - START) / (time.time() - start)


def torchrl(slots):
    """Milliseconds to hand in priorities and sample a batch of Hopper's transitions, by its size; adds/s; bytes."""
    from tensordict import TensorDict
    from torchrl.data import LazyTensorStorage, PrioritizedReplayBuffer

    torch.set_num_threads(1)
    buffer = PrioritizedReplayBuffer(alpha=0.6, beta=0.4, storage=LazyTensorStorage(slots), batch_size=32)

    def block(size):
        shapes = {"state": (11,), "action": (3,), "return": (), "discount": (), "next_state": (11,)}
        return TensorDict({name: torch.rand(size, *shape) for name, shape in shapes.items()}, batch_size=[size])

    for _ in range(slots // 1000):
        buffer.extend(block(1000))
    found, one = {}, block(50)
    for size in (32, 128, 512):
        times = []
        for _ in range(500):
            start = time.perf_counter()
            _, info = buffer.sample(size, return_info=True)
            buffer.update_priority(info["index"], torch.full((size,), 0.5))
            times.append(time.perf_counter() - start)
        found[str(size)] = 1000 * float(np.median(times))
    start = time.perf_counter()
    for _ in range(200):
        buffer.extend(one)
    found["adds"] = 200 * 50 / (time.perf_counter() - start)
    held = sum(tensor.numel() * tensor.element_size() for tensor in one.values()) / 50
    found["bytes"] = held + 2 * 2 * 4 * (1 << (slots - 1).bit_length()) / slots  # a sum and a min tree of float32
    return json.dumps(found)


if __name__ == "__main__":
    if {"-h", "--help"} & {*sys.argv} or len(sys.argv) == 1:
        sys.exit(__doc__)
    what, number, *seconds = sys.argv[1:]
    if seconds:
        torch.set_num_threads(int(number))
        print({"sb3_dqn": sb3_dqn, "sb3_ddpg": sb3_ddpg, "cleanrl_dqn": cleanrl_dqn}[what](float(seconds[0])))
    else:
        print(torchrl(int(number)))
