"""What `main` puts together, and what is measured, logged, saved and found: by hand, with no process of its own."""

import dataclasses
import sys
from copy import deepcopy
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from gymnasium.spaces import Box, Discrete

import ca2e_ddpg_mujoco as ddpg
import ca2e_dqn_atari as dqn
import catch_game
import pretrain_priors as pretrain

ROOT = Path(__file__).parents[1]


def prior_file(path, env_id, network, average_return):
    torch.save({"format": 1, "env_id": env_id, "network": network.state_dict(), "average_return": average_return}, path)


# ----------------------------------------------------------------------------------------------- How a run starts
@pytest.mark.parametrize("script, env_id", [(dqn, "PongNoFrameskip-v4"), (ddpg, "InvertedPendulum-v5")])
def test_nature_actors_come_first_and_find_weights_on_the_board(script, env_id, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(script.signal, "signal", lambda *_: None)
    seen = []

    def look(args, works, progress, store, board):
        seen.extend([works, np.frombuffer(board[0].buffer, board[1])[0].copy()])
        sys.exit("seen")

    monkeypatch.setattr(script, "take_turns", look)
    with pytest.raises(SystemExit, match="seen"):
        script.main(script.Args(sync=True, env_id=env_id, num_nature_actors=2, buffer_size=10_000,
                                prior_dir=str(ROOT / "priors")))
    works, board = seen
    assert [(work, bool(file)) for work, file in works] == (
        [(script.actor, False)] * 2 + [(script.actor, True)] * 3 + [(script.evaluator, False)])
    assert len({file for _, file in works}) == 4  # three different priors
    assert board["version"] == 2 and board["newest"].any() and board["average"].any()


@pytest.mark.parametrize("script", [dqn, ddpg])
def test_priors_are_shared_in_turn(script, tmp_path):
    env_id = "InvertedPendulum-v5"
    network = ddpg.Actor(ddpg.make_control(env_id))
    folder = tmp_path / env_id
    folder.mkdir()
    for name, rbar in (("a", 1.0), ("b", 2.0)):
        prior_file(folder / f"{name}.pt", env_id, network, rbar)
    found = script.find_priors(script.Args(env_id=env_id, prior_dir=str(tmp_path), num_prior_actors=3), network)
    assert [(Path(file).stem, rbar) for file, rbar in found] == [("a", 1.0), ("b", 2.0), ("a", 1.0)]


@pytest.mark.parametrize("script, env_id", [(dqn, "PongNoFrameskip-v4"), (ddpg, "InvertedPendulum-v5")])
def test_a_resumed_or_restarted_actor_plays_other_games(script, env_id, monkeypatch):
    name = "make_atari" if script is dqn else "make_control"
    seeds, make = [], getattr(script, name)

    def watched(env_id):
        env = make(env_id)
        reset = env.reset
        env.reset = lambda seed: seeds.append(seed) or reset(seed=seed)
        return env

    monkeypatch.setattr(script, name, watched)
    args = script.Args(env_id=env_id, buffer_size=5000)
    for step, joins in ((0, 1), (70, 1), (0, 2)):  # fresh; resumed; fresh, and started again
        replay = script.PrioritizedReplay(args, {"global_step": step, "prior_steps": 0, "evaluations": []})
        for _ in range(joins):
            next(script.actor(args, 0, None, replay, None, None))
    assert seeds[0] == seeds[2] and len(set(seeds)) == 3


@pytest.mark.parametrize("script", [dqn, ddpg])
def test_a_block_may_begin_at_the_allowed_step_and_not_beyond(script, monkeypatch):
    memory = script.shared_memory([("count", int)]), script.shared_memory([("allowed_step", int)])
    (board,), slept, began = np.frombuffer(memory[1][0].buffer, memory[1][1]), [], []
    board["allowed_step"] = 7

    def work(*_):
        for step in (7, 8, 9):
            began.append(step)
            yield step

    args = script.Args(num_prior_actors=0, buffer_size=5000)
    turns = script.take_turns(args, [(work, None)], {"global_step": 0, "prior_steps": 0, "evaluations": []}, *memory)
    for _ in range(5):
        next(turns)
    assert began == [7, 8]  # 8 is what follows the block that began at 7

    def sleep(seconds):
        slept.append(seconds)
        board["allowed_step"] += seconds == 0.02

    monkeypatch.setattr(script, "end_with_learner", lambda: None)
    monkeypatch.setattr(script.time, "sleep", sleep)
    script.run_child(lambda *_: iter([7, 8]), args, 0, None, None, *memory)
    assert slept == [0.0, 0.0, 0.02]
    drawn, nice = [], []  # torch's random numbers: others in each actor, the same in each run; and its niceness
    monkeypatch.setattr(script.os, "nice", nice.append)
    monkeypatch.setattr(script, "actor", lambda *_: drawn.append(float(torch.rand(()))) or iter([0]))
    for index, limit in ((0, 8.0), (1, 8.0), (0, 0.0)):
        script.run_child(script.actor, dataclasses.replace(args, samples_per_insert=limit), index, None, None, *memory)
    assert drawn[0] == drawn[2] != drawn[1] and nice == [19, 19, 0]


def test_a_lost_point_is_learned_from(monkeypatch):
    catch_game.replace_atari(monkeypatch.setattr)
    env, stored, append = catch_game.CatchEnv(1), set(), dqn.LocalBuffer.append
    monkeypatch.setattr(dqn.LocalBuffer, "append", lambda buffer, state, action, reward, *others, **final: (
        stored.add(float(reward)), append(buffer, state, action, reward, *others, **final)))
    args = dqn.Args(env_id="Catch", num_nature_actors=1, num_prior_actors=0, buffer_size=300)
    store = np.zeros(args.capacity, np.dtype(dqn.store_fields(env), align=True))
    size = sum(parameter.numel() for parameter in dqn.QNetwork(env).parameters())
    board = np.zeros(1, [("version", int), ("newest", np.float32, (size,))])[0]
    replay = dqn.PrioritizedReplay(args, {"global_step": 0, "prior_steps": 0, "evaluations": []})
    acting = dqn.actor(args, 0, None, replay, store, board)
    for _ in range(3):  # two blocks at random: seven balls
        next(acting)
    assert -1.0 in stored and stored <= {-1.0, 0.0, 1.0}


@pytest.mark.parametrize("script, agent, settings", [
    (dqn, "DQN", dict(num_prior_actors=0, buffer_size=10_000)), (pretrain, "DQN", {}),
    (ddpg, "DDPG", dict(env_id="InvertedPendulum-v5", num_prior_actors=0, buffer_size=10_000))])
def test_no_cuda_learns_on_the_cpu_beside_a_gpu(script, agent, settings, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    seen, cores, threads = [], [], [3]
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads[-1])
    monkeypatch.setattr(torch, "set_num_threads", threads.append)
    monkeypatch.setattr(script, agent, lambda args, env, device, *more: cores.extend(more) or seen.append(device.type) or sys.exit("seen"))
    for cuda in (True, False):
        threads.append(3)
        with pytest.raises(SystemExit, match="seen"):
            script.main(script.Args(cuda=cuda, prior_dir=str(tmp_path), **settings))
    assert seen == ["cuda", "cpu"] and cores == [3, 3] * (script is dqn)  # CA2E-DQN's learner takes those it finds


# ----------------------------------------------------------------------------------------------- Greedy episodes
class Scripted:
    """Two games: 0 loses a life in step 2 and its last in step 5, 1 ends in step 3; each step pays 4."""

    single_action_space, fire = Discrete(3), 2

    def reset(self, seed=None):
        self.t, self.actions, self.seed = 0, [], seed
        return np.zeros((2, 4, 84, 84), np.uint8), {}

    def step(self, actions):
        self.t, self.actions = self.t + 1, [*self.actions, list(actions)]
        assert self.t < 10, "it never ends"
        over = {2: [True, False], 3: [False, True], 5: [True, False]}.get(self.t, [False, False])
        lives = np.array([(2 if self.t < 2 else 1) * (self.t < 5), int(self.t != 3)])
        return np.zeros((2, 4, 84, 84), np.uint8), np.full(2, 4.0), np.array(over), np.zeros(2, bool), {"lives": lives}


@pytest.mark.parametrize("script", [dqn, pretrain])
def test_greedy_games_go_through_all_lives_press_fire_and_count_no_later_game(script, monkeypatch):
    env, seeds = Scripted(), []
    monkeypatch.setattr(script, "make_atari", lambda *_: env)
    for draw, action in ((0.0011, 1), (0.0009, 0)):  # 0.1 % of the actions are random, here 0
        monkeypatch.setattr(np.random, "default_rng", lambda seed: seeds.append(seed) or SimpleNamespace(
            integers=lambda high, size: np.zeros(size, int), random=lambda size: np.full(size, draw)))
        returns = script.play_atari("a game", lambda states: torch.tensor([[0.0, 1.0, 0.0]]).expand(len(states), 3), 2, 7)
        assert list(returns) == [20, 12] and [actions[0] for actions in env.actions] == [action, action, 2, action, action]
    assert seeds == [7, 7] and env.seed == 7


@pytest.mark.parametrize("script", [dqn, pretrain])
def test_a_film_keeps_its_own_frames_alone(script):
    film = []

    def network(states):
        if len(film) == 4:
            raise InterruptedError
        return torch.zeros(len(states), 6)

    with pytest.raises(InterruptedError):
        script.play_atari("PongNoFrameskip-v4", network, 2, 0, film)
    assert len(film) == 4 and all(frame.base is None and frame.shape == (84, 84) for frame in film)


@pytest.mark.parametrize("script", [ddpg, pretrain])
def test_a_greedy_episode_counts_no_later_one(script, monkeypatch):
    class Control:  # episode 0 is terminated in step 2, episode 1 truncated in step 4; each step pays 1
        t = 0

        def reset(self, seed=None):
            return np.zeros((2, 1, 3), np.float32), {}

        def step(self, actions):
            self.t += 1
            return (np.zeros((2, 1, 3), np.float32), np.ones(2), np.array([self.t == 2, False]),
                    np.array([False, self.t == 4]), {})

    monkeypatch.setattr(script, "make_control", lambda *_: Control())
    assert list(script.play_control("a task", lambda states: torch.zeros(2, 1), 2, 0)) == [2, 4]


@pytest.mark.parametrize("script", [dqn, pretrain])
def test_atari_pays_unclipped_and_v5_is_sticky(script, monkeypatch):
    env = script.make_atari("MsPacmanNoFrameskip-v4")
    env.reset(seed=0)
    assert max(env.step(np.array([3]))[1][0] for _ in range(120)) == 10  # a dot
    made, real = [], script.AtariVectorEnv
    monkeypatch.setattr(script, "AtariVectorEnv", lambda *args, **keywords: (
        made.append(keywords["repeat_action_probability"]) or real(*args, **keywords)))
    for env_id in ("PongNoFrameskip-v4", "ALE/Pong-v5"):
        script.make_atari(env_id)
    assert made == [0.0, 0.25]


# ---------------------------------------------------------------------------------------------------- --evaluate
@pytest.mark.parametrize("script, env_id, play", [
    (dqn, "BreakoutNoFrameskip-v4", "play_atari"), (ddpg, "InvertedPendulum-v5", "play_control")])
def test_evaluate_plays_the_network_of_the_file(script, env_id, play, monkeypatch):
    path, played = sorted((ROOT / "priors" / env_id).glob("*.pt"))[0], []
    monkeypatch.setattr(script, play, lambda env_id, network, games, *_: played.append(
        (env_id, games, deepcopy(network.state_dict()))) or np.zeros(games))
    monkeypatch.setattr("sys.argv", ["script", "--evaluate", str(path)])
    script.main(script.parse())
    (of, games, network), = played
    saved = torch.load(path, weights_only=True)["network"]
    assert (of, games) == (env_id, 20)
    assert all(torch.equal(tensor, saved[name].float()) for name, tensor in network.items())


@pytest.mark.parametrize("limit", [{}, {"samples_per_insert": 0.0}])  # 0: it ends without a rate limit, too
@pytest.mark.parametrize("script", [dqn, ddpg])
def test_what_is_measured_in_the_end_is_what_is_saved(script, limit, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(script.signal, "signal", lambda *_: None)
    if script is dqn:
        catch_game.replace_atari(monkeypatch.setattr)
    measured = []
    monkeypatch.setattr(script, "measure", lambda args, path, network, gif: (
        measured.append(deepcopy(network.state_dict())) or 7.5))
    script.main(script.Args(sync=True, env_id="Catch" if script is dqn else "InvertedPendulum-v5", total_timesteps=400,
                            learning_starts=300, num_nature_actors=1, num_prior_actors=0, eval_frequency=10**6, **limit))
    (path,) = tmp_path.glob("runs/*/agent.pt")
    saved = torch.load(path, weights_only=True)
    assert saved["average_return"] == 7.5 and saved["updates"] > 0
    assert all(torch.equal(tensor, measured[0][name]) for name, tensor in saved["network"].items())


@pytest.mark.parametrize("script, play", [(dqn, "play_atari"), (ddpg, "play_control")])
def test_measure_prints_and_returns_the_mean_of_20(script, play, tmp_path, monkeypatch, capsys):
    asked = []
    monkeypatch.setattr(script, play, lambda *given: asked.append(given) or np.arange(20.0))
    args = script.Args(env_id="a task", seed=3)
    assert script.measure(args, "agent.pt", "network", tmp_path / "agent.gif") == 9.5
    assert asked == [("a task", "network", 20, 3, None)]
    assert "agent.pt: 9.50 +- 5.77 over 20 greedy" in capsys.readouterr().out


# ---------------------------------------------------------------------------------------------------------- The log
@pytest.mark.parametrize("script", [dqn, ddpg])
def test_the_log_writes_each_event_once_where_it_belongs(script, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(script.threading, "excepthook", None)  # put back afterwards
    progress, written = {"global_step": 120, "prior_steps": 30, "evaluations": []}, []
    log = script.Log(script.Args(retire_patience=1), tmp_path, progress, [("a.pt", 5.0), ("b.pt", 50.0)], 0)
    log.writer.add_scalar = lambda *call: written.append(call)
    log(progress, [], {}, 0)
    progress["evaluations"] = [10.0]
    log(progress, [("episode", True, 3.0, 40), ("episode", False, 4.0, 50), ("evaluation", 110, np.array([8.0, 12.0]))],
        {}, 0)
    log(progress, [], {}, 0)
    assert written == [("priors/episodic_return", 3.0, 120), ("charts/episodic_return", 4.0, 120),
                       ("charts/eval_return", 10.0, 110), ("charts/eval_return_std", 2.0, 110), ("priors/acting", 1, 110)]
    assert capsys.readouterr().out.count("has retired") == 1
    log = script.Log(script.Args(retire_patience=1), tmp_path, progress, [("a.pt", 5.0), ("b.pt", 50.0)], 0)  # --resume
    log(progress, [], {}, 0)
    log({**progress, "evaluations": [10.0, 60.0]}, [("evaluation", 130, np.array([60.0]))], {}, 0)
    retired = [line for line in capsys.readouterr().out.splitlines() if "has retired" in line]
    assert len(retired) == 1 and "b.pt" in retired[0]


@pytest.mark.parametrize("script", [dqn, ddpg])
def test_rates_are_those_since_the_line_before(script, tmp_path, monkeypatch, capsys):
    clock, written = [1000.0], []
    monkeypatch.setattr(script.threading, "excepthook", None)
    monkeypatch.setattr(script, "time", SimpleNamespace(monotonic=lambda: clock[0]))
    progress = {"global_step": 5000, "prior_steps": 300, "evaluations": [4.0]}  # resumed, after 7,000 updates
    log = script.Log(script.Args(total_timesteps=20_000), tmp_path, progress, [("a.pt", 5.0)], 7000)
    log.writer.add_scalar = lambda *call: written.append(call)
    for second, step, updates, r in ((9, 5900, 7090, 4.0), (20, 7000, 7400, 4.0), (30, 8500, 7500, 12345.6)):
        clock[0] = 1000.0 + second
        progress = {"global_step": step, "prior_steps": 300, "evaluations": [4.0, r]}
        log(progress, [], {"losses/td_loss": torch.tensor(0.25)}, updates)
    assert capsys.readouterr().out.splitlines() == [
        "step 7,000 of 20,000 | 100 steps/s | 20 updates/s | greedy return 4.0 | priors acting: 1 | 2 min left",
        "step 8,500 of 20,000 | 150 steps/s | 10 updates/s | greedy return 12345.6 | priors acting: 1 | 1 min left"]
    names = "charts/SPS", "throughput/updates", "priors/steps", "losses/td_loss"
    assert written == [*zip(names, (100, 7400, 300, 0.25), [7000] * 4), *zip(names, (150, 7500, 300, 0.25), [8500] * 4)]


# ---------------------------------------------------------------------------------- Networks and the paper's settings
@pytest.mark.parametrize("script", [dqn, pretrain])
def test_the_q_network_by_plain_functions(script):
    functional, network = torch.nn.functional, script.QNetwork(SimpleNamespace(single_action_space=Discrete(3)))
    x = torch.randint(0, 256, (2, 4, 84, 84), dtype=torch.uint8)
    weights, hidden = list(network.parameters()), x / 255
    for i, stride in ((0, 4), (2, 2), (4, 1)):
        hidden = functional.conv2d(hidden, weights[i], weights[i + 1], stride).relu()
    hidden = functional.linear(hidden.flatten(1), weights[6], weights[7])
    hidden = functional.layer_norm(hidden, (512,), weights[8], weights[9]).relu()
    assert torch.allclose(network(x), functional.linear(hidden, weights[10], weights[11]), atol=1e-4)


@pytest.mark.parametrize("script", [ddpg, pretrain])
def test_the_actor_and_its_bounds_that_are_not_symmetric(script):
    functional, low, high = torch.nn.functional, np.array([0, -1], np.float32), np.array([2, 5], np.float32)
    actor = script.Actor(SimpleNamespace(single_observation_space=Box(-1, 1, (1, 3)), single_action_space=Box(low, high)))
    x, weights = torch.randn(4, 1, 3), list(actor.parameters())
    hidden = x.flatten(1)
    for i in (0, 4):
        hidden = functional.linear(hidden, weights[i], weights[i + 1])
        hidden = functional.layer_norm(hidden, (64,), weights[i + 2], weights[i + 3]).relu()
    want = torch.tensor([1.0, 2.0]) + torch.tensor([1.0, 3.0]) * functional.linear(hidden, weights[8], weights[9]).tanh()
    assert torch.allclose(actor(x), want, atol=1e-5)
    torch.nn.init.zeros_(weights[8])
    for bias, action in ((0.0, [1, 2]), (100.0, [2, 5]), (-100.0, [0, -1])):
        torch.nn.init.constant_(weights[9], bias)
        assert actor(x)[0].tolist() == action


def test_the_papers_settings_are_the_defaults():
    both = dict(num_nature_actors=5, num_prior_actors=3, n_step=3, local_buffer_size=50, per_alpha=0.6, per_beta=0.4,
                gamma=0.99)
    for args, want in (
            (dqn.Args(), dict(learning_rate=1e-4, buffer_size=10**6, target_network_frequency=10_000, batch_size=32,
                              end_e=0.1, exploration_steps=10**6, total_timesteps=10**7, samples_per_insert=8)),
            (ddpg.Args(), dict(actor_learning_rate=1e-4, critic_learning_rate=1e-3, critic_l2=1e-2, tau=1e-3,
                               batch_size=128, total_timesteps=10**6, samples_per_insert=128))):
        assert {name: getattr(args, name) for name in want | both} == want | both
    for name in ("CHECKPOINT_FORMAT", "SAVE_SECONDS", "LOG_SECONDS", "KILLS_A_MINUTE", "BATCHES_PER_CALL"):
        assert getattr(dqn, name) == getattr(ddpg, name)
    assert dqn.SAVE_SECONDS == 180 and dqn.BATCHES_PER_CALL == 32  # "at most three minutes", "up to 32 batches"
