"""The pretrainer: its replay against the game's own stacks, its three targets by hand, and its checkpoint."""

import numpy as np
import pytest
import torch

import ca2e_dqn_atari as ca2e
import pretrain_priors as pretrain


@pytest.mark.parametrize("env_id", ["PongNoFrameskip-v4", "BreakoutNoFrameskip-v4"])
def test_uniform_replay_returns_the_games_own_stacks_and_returns(env_id, monkeypatch):
    args = pretrain.Args(env_id=env_id, num_envs=3)
    replay, seen = pretrain.UniformReplay(400, 3, seed=0), []
    player = pretrain.Player(args, replay, seed=0)
    add = replay.add
    monkeypatch.setattr(replay, "add", lambda *row: (seen.append((player.states.copy(), *map(np.copy, row))), add(*row)))
    q_network, checked, cuts, n, gamma = pretrain.QNetwork(player.num_actions), 0, 0, 3, 0.99
    for step in range(1500):  # nearly four laps
        player.step(q_network, 1.0, torch.device("cpu"))
        if step % 100 != 99:
            continue
        drawn = []
        monkeypatch.setattr(replay, "rng", Spy(np.random.default_rng(step), drawn))
        states, actions, returns, discounts, next_states = replay.sample(64, n, gamma)
        t, e = drawn[0], drawn[1]
        for j in range(64):
            stacks, _, _, rewards, terminations, _, last = ([row[i] for row in seen] for i in range(7))
            assert not last[t[j]][e[j]]
            total, discount, k = 0.0, 1.0, 0
            for k in range(1, n + 1):
                total += gamma ** (k - 1) * rewards[t[j] + k - 1][e[j]]
                discount = gamma**k
                if terminations[t[j] + k - 1][e[j]]:
                    discount = 0.0
                    break
                if last[t[j] + k][e[j]]:
                    break
            assert (states[j] == stacks[t[j]][e[j]]).all() and (next_states[j] == stacks[t[j] + k][e[j]]).all()
            assert actions[j] == seen[t[j]][2][e[j]]
            assert returns[j] == pytest.approx(total) and discounts[j] == pytest.approx(discount)
            checked, cuts = checked + 1, cuts + (k < n)
    assert checked == 15 * 64 and any(row[6].any() for row in seen)
    assert cuts > 0 or "Pong" in env_id


class Spy:
    """A random generator that keeps what it drew; `t` is mended in place, so the kept array is what was used."""

    def __init__(self, rng, drawn):
        self.rng, self.drawn = rng, drawn

    def integers(self, *arguments, **keywords):
        self.drawn.append(self.rng.integers(*arguments, **keywords))
        return self.drawn[-1]


class Table(torch.nn.Module):
    """A q-network that looks its values up: q(s) is row s of the table."""

    def __init__(self, rows):
        super().__init__()
        self.rows = torch.tensor(rows)

    def forward(self, states):
        return self.rows[states]


def test_targets_of_the_three_algorithms_by_hand():
    online, target = Table([[0.0, 5.0, 1.0], [3.0, 2.0, 1.0]]), Table([[10.0, 20.0, 30.0], [40.0, 50.0, 60.0]])
    returns, discounts, next_states = torch.tensor([1.0, 2.0]), torch.tensor([0.5, 0.0]), torch.tensor([0, 1])
    dqn = pretrain.td_target("dqn", online, target, returns, next_states, discounts)
    assert dqn.tolist() == [1 + 0.5 * 30, 2]  # the target network's own best
    for algo in ("double-dqn", "n-step-double-dqn"):
        double = pretrain.td_target(algo, online, target, returns, next_states, discounts)
        assert double.tolist() == [1 + 0.5 * 20, 2]  # the online network's best, action 1


def test_a_short_training_is_resumed_and_ships_a_checkpoint_that_ca2e_takes_as_a_prior(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(pretrain.signal, "signal", lambda *_: None)
    settings = dict(algo="dqn", learning_starts=100, eval_frequency=200, eval_episodes=1, num_envs=2, buffer_size=1000)
    pretrain.main(pretrain.Args(**settings, total_timesteps=300))
    first = torch.load("runs/PongNoFrameskip-v4__dqn__1/resume.pt", weights_only=True)
    pretrain.main(pretrain.Args(**settings, total_timesteps=500, resume=True))
    second = torch.load("runs/PongNoFrameskip-v4__dqn__1/resume.pt", weights_only=True)
    assert (first["global_step"], second["global_step"]) == (300, 500)
    updates = [state["optimizer"]["state"][0]["step"].item() for state in (first, second)]
    assert updates == [50, 50 + 25]  # every 4th step, but for the first 100 of each sitting
    path = tmp_path / "priors" / "PongNoFrameskip-v4" / "dqn.pt"
    assert path.stat().st_size < 4e6
    checkpoint = ca2e.load_checkpoint(path, "PongNoFrameskip-v4", ca2e.QNetwork(6))
    assert checkpoint["algo"] == "dqn" and checkpoint["episodes"] == 20 and -21 <= checkpoint["average_return"] < 0


def test_resuming_what_is_not_there_is_one_clear_line(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit, match="^error: cannot go on from .*; start without --resume$"):
        pretrain.main(pretrain.Args(resume=True))
