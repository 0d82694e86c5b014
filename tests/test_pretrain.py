"""The pretrainer: its replay against the game's own stacks, its three targets by hand, and its checkpoint."""

import sys
from copy import deepcopy
from types import SimpleNamespace

import numpy as np
import pytest
import torch

import ca2e_ddpg_mujoco as ddpg
import ca2e_dqn_atari as ca2e
import catch_game
import pretrain_priors as pretrain
from test_main import Scripted


@pytest.mark.parametrize("env_id", ["PongNoFrameskip-v4", "BreakoutNoFrameskip-v4"])
def test_uniform_replay_returns_the_games_own_stacks_and_returns(env_id, monkeypatch):
    args, env = pretrain.Args(env_id=env_id, num_envs=3), pretrain.make_atari(env_id, 3)
    replay, seen, stacks, rng = pretrain.UniformReplay(400, 3, env, seed=0), [], [], np.random.default_rng(0)
    add = replay.add

    class AtRandom:
        def act(self, states, step):
            stacks.append(states.copy())
            return rng.integers(env.single_action_space.n, size=3)

    monkeypatch.setattr(replay, "add", lambda *row: (seen.append((stacks[-1], *map(np.copy, row))), add(*row)))
    playing, checked, cuts, n, gamma = pretrain.play_and_store(args, env, replay, AtRandom(), 0), 0, 0, 3, 0.99
    for step in range(1500):  # nearly four laps
        next(playing)
        if step % 100 != 99:
            continue
        drawn = []
        monkeypatch.setattr(replay, "rng", Spy(np.random.default_rng(step), drawn))
        states, actions, returns, discounts, next_states = replay.sample(64, n, gamma)
        t, e = drawn[0], drawn[1]
        stacks, _, _, rewards, terminations, _, last = ([row[i] for row in seen] for i in range(7))
        for j in range(64):
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
    dqn = pretrain.dqn_target("dqn", online, target, returns, discounts, next_states)
    assert dqn.tolist() == [1 + 0.5 * 30, 2]  # the target network's own best
    for algo in ("double-dqn", "n-step-double-dqn"):
        double = pretrain.dqn_target(algo, online, target, returns, discounts, next_states)
        assert double.tolist() == [1 + 0.5 * 20, 2]  # the online network's best, action 1


def test_the_average_follows_the_network():
    """After few updates it is young, later 1 / 5,000 an update; the reference adds up in float64."""
    torch.manual_seed(0)
    agent = pretrain.DQN(pretrain.Args(learning_rate=0.01), catch_game.CatchEnv(1), torch.device("cpu"))
    rng, want = np.random.default_rng(0), agent.average.network[-1].weight.detach().double()
    assert torch.equal(agent.average.network[-1].weight, agent.network.network[-1].weight)
    for update, rate in ((0, 10 / 11), (89, 0.1), (10**6, 0.0002), (10**6 + 1, 0.0002)):
        agent.updates = update
        states = torch.from_numpy(rng.integers(0, 256, (2, 8, 4, 84, 84), dtype=np.uint8))
        agent.update([states[0], torch.zeros(8, dtype=torch.int64), torch.ones(8), torch.zeros(8), states[1]], 0)
        want = (1 - rate) * want + rate * agent.network.network[-1].weight.detach().double()
        assert (agent.average.network[-1].weight - want).abs().max() < 1e-6
    assert (agent.average.network[-1].weight - agent.network.network[-1].weight).abs().max() > 1e-3


@pytest.mark.parametrize("algo, updates_first", [("dqn", 50), ("td3", 200), ("n-step-ddpg", 200)])
def test_a_short_training_is_resumed_and_ships_a_checkpoint_that_ca2e_takes_as_a_prior(
        algo, updates_first, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(pretrain.signal, "signal", lambda *_: None)
    settings = dict(algo=algo, learning_starts=100, eval_frequency=500, eval_episodes=1, num_envs=2, buffer_size=1000,
                    target_network_frequency=280)  # copied once: in the first part
    if algo == "dqn":
        env_id, best = "Catch", 5
        monkeypatch.setattr(pretrain, "make_atari", catch_game.make_atari)
        network = ca2e.QNetwork(catch_game.CatchEnv(1))
    else:
        env_id, best = "InvertedPendulum-v5", 1000
        settings.update(train_frequency=1, batch_size=32)
        network = ddpg.Actor(ddpg.make_control(env_id))
    with pytest.raises(SystemExit, match="--learning-starts must be below --total-timesteps"):
        pretrain.main(pretrain.Args(**settings, env_id=env_id, total_timesteps=100))
    pretrain.main(pretrain.Args(**settings, env_id=env_id, total_timesteps=300))
    with pytest.raises(SystemExit, match="is there; --replace it, or take another --prior-dir"):
        pretrain.main(pretrain.Args(**settings, env_id=env_id, total_timesteps=500, resume=True))
    settings["replace"] = True
    first = torch.load(f"runs/{env_id}__{algo}__1/resume.pt", weights_only=True)
    with pytest.raises(SystemExit, match="holds a training already; go on with --resume"):
        pretrain.main(pretrain.Args(**settings, env_id=env_id, total_timesteps=300))
    pretrain.main(pretrain.Args(**settings, env_id=env_id, total_timesteps=500, resume=True, learning_rate=0.002))
    second = torch.load(f"runs/{env_id}__{algo}__1/resume.pt", weights_only=True)
    assert (first["global_step"], second["global_step"]) == (300, 500)
    if algo == "dqn":
        assert all(torch.equal(tensor, first["target"][name]) for name, tensor in second["target"].items())
        assert not torch.equal(first["target"]["network.0.weight"], first["network"]["network.0.weight"])
    evaluated = first["average" if algo == "dqn" else "network"]  # the only evaluation was at the end
    assert all(torch.equal(tensor, evaluated[name]) for name, tensor in first["best_network"].items())
    optimizer = "optimizer" if algo == "dqn" else "critic_optimizer"
    assert second[optimizer]["param_groups"][0]["lr"] == 0.002 != first[optimizer]["param_groups"][0]["lr"]
    updates = [state[optimizer]["state"][0]["step"].item() for state in (first, second)]
    assert updates == [updates_first, updates_first * 3 // 2]  # none in the first 100 steps of each sitting
    path = tmp_path / "priors" / env_id / f"{algo}.pt"
    checkpoint = (ca2e if algo == "dqn" else ddpg).load(path, env_id, network=network)
    assert checkpoint["algo"] == algo and checkpoint["episodes"] == 20 and -5 <= checkpoint["average_return"] <= best


def test_a_prior_of_atari_fits_in_4_mb(tmp_path):
    network, path = pretrain.QNetwork(pretrain.make_atari("PongNoFrameskip-v4")), tmp_path / "prior.pt"
    state = {"best_network": network.state_dict(), "best_step": 7}
    pretrain.ship(pretrain.Args(), lambda *_: np.full(20, 3.0), network, path, {"format": 1}, state)
    found = torch.load(path, weights_only=True)
    assert path.stat().st_size < 4e6 and (found["average_return"], found["global_step"]) == (3, 7)


@pytest.mark.parametrize("settings, hint", [
    ({"gamma": 1.5}, "--gamma must be from 0 to 1"), ({"gamma": float("nan")}, "--gamma must be from 0 to 1"),
    ({"learning_rate": -1.0}, "--learning-rate must be from 0"), ({"num_envs": 0}, "--num-envs must be from 1"),
    ({"seed": -1}, "--seed must be from 0"), ({"buffer_size": 50}, "--buffer-size is too small for --num-envs"),
    ({"env_id": "CartPole-v1"}, "cannot play CartPole-v1"), ({"prior_dir": "file"}, "")])
def test_settings_that_cannot_work_are_one_line_before_anything_is_made(settings, hint, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").touch()
    with pytest.raises(SystemExit if hint else (FileExistsError, NotADirectoryError)) as stop:
        pretrain.main(pretrain.Args(**settings))
    if hint:
        assert stop.value.code.startswith("error: ") and hint in stop.value.code and "\n" not in stop.value.code
    assert not (tmp_path / "runs").exists()


def test_defaults_for_continuous_control(monkeypatch):
    for line, want in (("--algo td3 --batch-size 64", (1e-3, 64, 1)), ("--algo dqn", (1e-4, 32, 8))):
        monkeypatch.setattr("sys.argv", ["pretrain_priors.py", *line.split()])
        args = pretrain.parse()
        assert (args.learning_rate, args.batch_size, args.num_envs) == want


def test_ddpg_targets_by_hand():
    env = pretrain.make_control("Pendulum-v1")  # actions within 2
    actor = pretrain.Actor(env)
    torch.nn.init.zeros_(actor.network[-1].weight)
    torch.nn.init.constant_(actor.network[-1].bias, 100.0)  # always 2, the bound
    def low(states, actions):
        return -actions[:, 0]

    def high(states, actions):
        return 10 * actions[:, 0]

    returns, discounts, states = torch.tensor([1.0, 2.0]), torch.tensor([0.5, 0.0]), torch.zeros(2, 1, 3)
    one_critic = pretrain.ddpg_target("ddpg", actor, [high], returns, discounts, states)
    assert one_critic.tolist() == [1 + 0.5 * 20, 2]
    torch.manual_seed(0)
    targets = [pretrain.ddpg_target("td3", actor, [high, low], returns, discounts, states) for _ in range(200)]
    actions = -2 * (torch.stack(targets)[:, 0] - 1)  # the smaller critic is `low`
    assert 1.0 <= actions.min() < 1.3 and actions.max() == 2  # noise clipped to half the scale, action to its bound


def test_an_update_of_ddpg_climbs_the_critic_and_moves_the_targets():
    torch.manual_seed(0)
    agent = pretrain.DDPG(pretrain.Args(algo="ddpg", tau=0.25, learning_rate=1e-3),
                          pretrain.make_control("InvertedPendulum-v5"), torch.device("cpu"))
    old, states = deepcopy(agent), torch.randn(8, 1, 4)
    agent.update([states, torch.rand(8, 1), torch.randn(8), torch.full((8,), 0.9), torch.randn(8, 1, 4)], 0)
    value = agent.critics[0](states, old.network(states)).mean()  # by the critic as it is now
    gradients = torch.autograd.grad(value, list(old.network.parameters()))
    for before, now, up in zip(old.network.parameters(), agent.network.parameters(), gradients):
        moved = up.abs() > 1e-5  # Adam's first step is the learning rate times the sign
        assert torch.allclose((now - before)[moved], 1e-3 * up.sign()[moved], atol=2e-5)
    for target, before, newest in ((agent.target, old.target, agent.network),
                                   (agent.target_critics, old.target_critics, agent.critics)):
        for t, b, n in zip(target.parameters(), before.parameters(), newest.parameters()):
            assert torch.allclose(t, 0.75 * b + 0.25 * n, atol=1e-6)


def test_td3_moves_its_actor_at_every_second_update():
    agent = pretrain.DDPG(pretrain.Args(algo="td3"), pretrain.make_control("InvertedPendulum-v5"), torch.device("cpu"))
    states, actions, returns, discounts, next_states = (torch.randn(8, 1, 4), torch.rand(8, 1), torch.randn(8),
                                                        torch.full((8,), 0.9), torch.randn(8, 1, 4))
    for late in (False, True, False, True):  # its targets, too, follow at every second update only
        before = deepcopy([agent.network, agent.target, agent.target_critics])
        agent.update([states, actions, returns, discounts, next_states], 0)
        for old, new in zip(before, (agent.network, agent.target, agent.target_critics)):
            assert late != all(torch.equal(one, other) for one, other in zip(old.parameters(), new.parameters()))


SHORT = dict(env_id="InvertedPendulum-v5", algo="ddpg", learning_starts=50, batch_size=16, total_timesteps=300, num_envs=1,
             train_frequency=1, buffer_size=1000)


def test_the_best_evaluation_ships(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(pretrain.signal, "signal", lambda *_: None)
    scores, networks = iter([1.0, 3.0, 2.0, 9.0]), []  # the last: the 20 games of the one that ships
    monkeypatch.setattr(pretrain, "play_control", lambda env_id, network, *_: (
        networks.append(deepcopy(network.state_dict())) or np.full(1, next(scores))))
    pretrain.main(pretrain.Args(**SHORT, eval_frequency=100))
    shipped = torch.load("priors/InvertedPendulum-v5/ddpg.pt", weights_only=True)
    assert (shipped["global_step"], shipped["average_return"]) == (200, 9)
    assert all(torch.equal(tensor, networks[1][name].half()) for name, tensor in shipped["network"].items())


def test_a_stopped_training_saves_ships_nothing_and_exits_with_130(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    handlers, update = {}, pretrain.DDPG.update
    monkeypatch.setattr(pretrain.signal, "signal", lambda number, handler: handlers.update({number: handler}))

    def stopping(agent, batch, step):
        if step == 60:
            handlers[2](2, None)
        return update(agent, batch, step)

    monkeypatch.setattr(pretrain.DDPG, "update", stopping)
    with pytest.raises(SystemExit) as stop:
        pretrain.main(pretrain.Args(**SHORT, eval_frequency=1000))
    assert stop.value.code == 130 and not list(tmp_path.glob("priors/*/*.pt"))
    assert torch.load("runs/InvertedPendulum-v5__ddpg__1/resume.pt", weights_only=True)["global_step"] == 60


def test_atari_is_stored_clipped_reported_unclipped_and_fire_is_pressed():
    rows, agent = [], SimpleNamespace(act=lambda states, step: np.zeros(2, int))
    replay = SimpleNamespace(add=lambda *row: rows.append([np.copy(column) for column in row]))
    playing = pretrain.play_and_store(pretrain.Args(num_envs=2), Scripted(), replay, agent, 0)
    assert [next(playing)[1] for _ in range(5)] == [[], [], [12.0], [], [20.0]]
    assert [row[1][0] for row in rows] == [0, 0, 2, 0, 0] and all((row[2] == 1).all() for row in rows)


def test_epsilon_of_the_pretrainer_falls():
    agent = pretrain.DQN(pretrain.Args(end_e=0.02, exploration_steps=100), catch_game.CatchEnv(1), torch.device("cpu"))
    states, draws = np.zeros((4, 4, 84, 84), np.uint8), []
    agent.rng = SimpleNamespace(random=lambda size: np.array([0.01, 0.03, 0.5, 0.99]),
                                integers=lambda high, size: draws.append(int(size)) or np.zeros(size, int))
    for step in (0, 50, 100, 1000):
        agent.act(states, step)
    assert draws == [4, 3, 1, 1]


@pytest.mark.parametrize("algo", ["dqn", "double-dqn"])
def test_an_update_of_dqn_by_hand_and_its_target_network_follows(algo):
    torch.manual_seed(0)
    args = pretrain.Args(algo=algo, learning_rate=1e-3, target_network_frequency=100)
    agent = pretrain.DQN(args, catch_game.CatchEnv(1), torch.device("cpu"))
    torch.nn.init.normal_(agent.target.network[-1].weight, 0, 0.1)  # not as the online network
    rows, actions, returns, discounts = torch.arange(8), torch.arange(8) % 3, torch.randn(8), torch.full((8,), 0.9)
    states, next_states = torch.randint(0, 256, (2, 8, 4, 84, 84), dtype=torch.uint8)
    next_q, q_values = agent.target(next_states), agent.network(states)[rows, actions]
    chooser = next_q if algo == "dqn" else agent.network(next_states)
    target = (returns + discounts * next_q[rows, chooser.argmax(1)]).detach()
    loss = 0.5 * (target - q_values).square().mean()
    want = torch.autograd.grad(loss, list(agent.network.parameters()))
    scale = min(1.0, 10 / float(torch.cat([one.flatten() for one in want]).norm()))
    batch = [states, actions, returns, discounts, next_states]
    metrics = agent.update(batch, 250)
    for parameter, gradient in zip(agent.network.parameters(), want):
        assert torch.allclose(parameter.grad, scale * gradient, rtol=1e-3, atol=1e-5)
    assert float(metrics["losses/td_loss"]) == pytest.approx(float(loss.detach()), rel=1e-4)
    assert float(metrics["losses/q_values"]) == pytest.approx(float(q_values.detach().mean()), abs=1e-5)
    before = deepcopy(agent.target.state_dict())
    agent.update(batch, 299)
    assert all(torch.equal(tensor, before[name]) for name, tensor in agent.target.state_dict().items())
    online = deepcopy(agent.network.state_dict())
    agent.update(batch, 300)
    assert all(torch.equal(tensor, online[name]) for name, tensor in agent.target.state_dict().items())


@pytest.mark.parametrize("algo", ["ddpg", "td3"])
def test_the_critics_of_an_update_by_hand(algo, monkeypatch):
    torch.manual_seed(0)
    monkeypatch.setattr(torch, "randn_like", torch.zeros_like)  # TD3's noise
    env = pretrain.make_control("InvertedPendulum-v5")
    agent = pretrain.DDPG(pretrain.Args(algo=algo), env, torch.device("cpu"))
    assert len(agent.critics) == len(agent.target_critics) == 1 + (algo == "td3")
    with torch.no_grad():
        for parameter in [*agent.target.parameters(), *agent.target_critics.parameters()]:
            parameter.add_(0.1 * torch.randn(parameter.shape))
    states, next_states = torch.randn(2, 8, 1, 4)
    actions, returns, discounts = torch.rand(8, 1), torch.randn(8), torch.full((8,), 0.9)
    next_actions = agent.target(next_states)
    next_q = torch.stack([critic(next_states, next_actions) for critic in agent.target_critics]).amin(0)
    target = (returns + discounts * next_q).detach()
    q_values = [critic(states, actions) for critic in agent.critics]
    loss = sum(0.5 * (target - q).square().mean() for q in q_values)
    want = torch.autograd.grad(loss, list(agent.critics.parameters()))
    metrics = agent.update([states, actions, returns, discounts, next_states], 0)
    for parameter, gradient in zip(agent.critics.parameters(), want):
        assert torch.allclose(parameter.grad, gradient, rtol=1e-4, atol=1e-6)
    assert float(metrics["losses/td_loss"]) == pytest.approx(float(loss.detach()), rel=1e-4)
    assert float(metrics["losses/q_values"]) == pytest.approx(float(torch.cat(q_values).detach().mean()), abs=1e-5)


def test_a_loss_is_stored_clipped_and_reported_unclipped():
    class Losing(Scripted):
        def step(self, actions):
            states, rewards, *others = super().step(actions)
            return states, -rewards, *others

    rows, agent = [], SimpleNamespace(act=lambda states, step: np.zeros(2, int))
    replay = SimpleNamespace(add=lambda *row: rows.append(np.copy(row[2])))
    playing = pretrain.play_and_store(pretrain.Args(num_envs=2), Losing(), replay, agent, 0)
    assert [next(playing)[1] for _ in range(5)] == [[], [], [-12.0], [], [-20.0]]
    assert all((row == -1).all() for row in rows)


def test_a_truncated_episode_ends_windows_and_bootstraps():
    """Reacher-v5 never terminates: each 50th step is truncated, the row after it is the last state."""
    args = pretrain.Args(env_id="Reacher-v5", algo="n-step-ddpg", num_envs=1)
    env, rng, drawn = pretrain.make_control("Reacher-v5"), np.random.default_rng(0), []
    replay = pretrain.UniformReplay(500, 1, env, seed=0)
    agent = SimpleNamespace(act=lambda states, step: rng.uniform(-1, 1, (1, 2)).astype(np.float32))
    playing = pretrain.play_and_store(args, env, replay, agent, 0)
    ended = [next(playing)[1] for _ in range(205)]
    rewards = replay.data["reward"][:, 0]
    assert [t for t, game in enumerate(ended) if game] == [49, 100, 151, 202]
    assert ended[100] == pytest.approx([rewards[51:101].sum()], rel=1e-4)
    assert list(np.flatnonzero(replay.data["last"][:205, 0])) == [50, 101, 152, 203]
    replay.rng = Spy(rng, drawn)
    _, _, returns, discounts, next_states = replay.sample(256, 3, 0.9)
    t = drawn[0]
    k = np.minimum(3, 50 - t % 51)
    assert (t % 51 < 50).all() and (k < 3).any() and discounts == pytest.approx(0.9**k)
    want = [sum(0.9**i * rewards[a + i] for i in range(b)) for a, b in zip(t, k)]
    assert returns == pytest.approx(np.array(want), abs=1e-5)
    assert (next_states[:, 0] == replay.data["frame"][t + k, 0]).all()


def test_the_pretrainers_agents_act_on_their_networks():
    states = np.random.default_rng(0).integers(0, 256, (8, 4, 84, 84), dtype=np.uint8)
    agent = pretrain.DQN(pretrain.Args(end_e=0.0, exploration_steps=1), catch_game.CatchEnv(1), torch.device("cpu"))
    torch.nn.init.normal_(agent.network.network[-1].weight)  # not as the target or the average
    assert (agent.act(states, 10) == agent.network(torch.from_numpy(states)).argmax(1).numpy()).all()
    args = pretrain.Args(algo="ddpg", learning_starts=100, exploration_noise=0.1)
    agent = pretrain.DDPG(args, pretrain.make_control("InvertedPendulum-v5"), torch.device("cpu"))  # within 3
    states, last = np.zeros((1000, 1, 4), np.float32), agent.network.network[-1]
    torch.nn.init.zeros_(last.weight), torch.nn.init.zeros_(last.bias)
    early, late = agent.act(states, 99), agent.act(states, 100)
    assert early.dtype == np.float32 and early.min() < -2.8 and early.max() > 2.8
    assert abs(late.mean()) < 0.05 and 0.25 < late.std() < 0.35
    torch.nn.init.constant_(last.bias, 100.0)
    assert agent.act(states, 100).max() == 3  # clipped


def test_rbar_is_the_mean_of_20_games_of_the_very_network_that_ships(tmp_path, capsys):
    env, played = pretrain.make_control("InvertedPendulum-v5"), []
    best, player = pretrain.Actor(env), pretrain.Actor(env)

    def play(env_id, network, games, seed):
        played.append(deepcopy(network.state_dict()))
        return np.arange(float(games))

    state = {"best_network": best.state_dict(), "best_step": 7}
    pretrain.ship(pretrain.Args(), play, player, tmp_path / "prior.pt", {"format": 1}, state)
    found = torch.load(tmp_path / "prior.pt", weights_only=True)
    assert found["average_return"] == 9.5 and "9.50 +- 5.77 over 20" in capsys.readouterr().out
    assert all(torch.equal(played[0][name], tensor.float()) for name, tensor in found["network"].items())


@pytest.mark.parametrize("algo, n", [("ddpg", 1), ("td3", 1), ("n-step-ddpg", 4)])
def test_only_the_n_step_algorithms_take_n_steps(algo, n, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(pretrain.signal, "signal", lambda *_: None)
    asked = []
    monkeypatch.setattr(pretrain.UniformReplay, "sample", lambda replay, *what: asked.append(what) or sys.exit("seen"))
    with pytest.raises(SystemExit, match="seen"):
        pretrain.main(pretrain.Args(**{**SHORT, "algo": algo}, n_step=4, gamma=0.9))
    assert asked == [(16, n, 0.9)]


def test_a_training_is_saved_every_two_minutes(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(pretrain.signal, "signal", lambda *_: None)
    clock, saved = iter(range(0, 10**6, 50)), []  # each look at it comes 50 seconds later
    monkeypatch.setattr(pretrain, "time", SimpleNamespace(time=lambda: float(next(clock))))
    monkeypatch.setattr(pretrain, "play_control", lambda *_: np.zeros(1))
    monkeypatch.setattr(pretrain, "save_checkpoint", lambda path, state: saved.append(state["global_step"]))
    pretrain.main(pretrain.Args(**{**SHORT, "total_timesteps": 60}))
    assert saved[:3] == [2, 5, 8]


def test_a_resumed_training_keeps_its_best_and_counts_its_updates_on(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(pretrain.signal, "signal", lambda *_: None)
    scores = iter([5.0, 0.0, 1.0, 2.0, 0.0])  # an evaluation, what ships; two evaluations, what ships
    monkeypatch.setattr(pretrain, "play_control", lambda *_: np.full(1, next(scores)))
    for total in (100, 300):
        pretrain.main(pretrain.Args(**{**SHORT, "total_timesteps": total}, eval_frequency=100, replace=True,
                                    resume=total > 100))
    state = torch.load("runs/InvertedPendulum-v5__ddpg__1/resume.pt", weights_only=True)
    assert (state["best"], state["best_step"], state["updates"]) == (5, 100, 50 + 150)
    assert torch.load("priors/InvertedPendulum-v5/ddpg.pt", weights_only=True)["global_step"] == 100


def test_a_training_stops_once_it_has_its_target(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(pretrain.signal, "signal", lambda *_: None)
    scores = iter([4.9, 5.0, 7.0])  # two evaluations, what ships
    monkeypatch.setattr(pretrain, "play_control", lambda *_: np.full(1, next(scores)))
    pretrain.main(pretrain.Args(**SHORT, eval_frequency=60, target_return=5.0))
    state = torch.load("runs/InvertedPendulum-v5__ddpg__1/resume.pt", weights_only=True)
    assert (state["global_step"], state["best"]) == (120, 5)


def test_weights_that_are_not_finite_end_a_training_and_are_neither_saved_nor_shipped(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(pretrain.signal, "signal", lambda *_: None)
    update = pretrain.DDPG.update

    def spoilt(agent, batch, step):
        if step == 80:
            agent.optimizer.param_groups[0]["lr"] = float("nan")
        return update(agent, batch, step)

    monkeypatch.setattr(pretrain.DDPG, "update", spoilt)
    with pytest.raises(SystemExit, match="^error: the weights are not finite, by step 100; lower --learning-rate$"):
        pretrain.main(pretrain.Args(**{**SHORT, "total_timesteps": 100}, eval_frequency=90))
    assert not list(tmp_path.glob("**/*.pt"))


def test_resuming_what_is_not_there_is_one_clear_line(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit, match="^error: cannot go on from .*; start without --resume$"):
        pretrain.main(pretrain.Args(resume=True))
