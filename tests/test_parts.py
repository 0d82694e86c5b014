"""The pure parts of CA2E-DQN against literals worked by hand, brute force and slow loops."""

import time
from copy import deepcopy
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from gymnasium.spaces import Discrete

import ca2e_ddpg_mujoco as ddpg
import ca2e_dqn_atari as ca2e


def make_replay(averages=(), **settings):
    """A replay in this process: two nature actors, a prior actor per average, parts of 50 slots, blocks of 10."""
    averages = list(averages)
    defaults = {"num_nature_actors": 2, "num_prior_actors": len(averages), "local_buffer_size": 10, "batch_size": 8,
                "total_timesteps": 10**9, "buffer_size": 50 * (2 + len(averages)), "learning_starts": 0,
                "samples_per_insert": 0.0}
    args = ca2e.Args(**{**defaults, **settings})
    state = {"global_step": 0, "prior_steps": 0, "updates": 0, "evaluations": [], "roles": [0, 1, *[None] * len(averages)]}
    return ca2e.PrioritizedReplay(args, averages, state), args


NOTHING = np.zeros(0, np.int64), np.zeros(0)


def with_actions(number):
    """As much of an Atari environment as a network needs to know."""
    return SimpleNamespace(single_action_space=Discrete(number))


# ------------------------------------------------------------------------------------------------- n-step returns
def n_step(rewards, terminations=(), last=(), n=3, gamma=0.9):
    length = len(rewards)
    flags = [np.isin(np.arange(length), list(places)) for places in (terminations, last)]
    return ca2e.n_step_transitions(np.array(rewards, float), *flags, n, gamma)


def test_n_step_return_in_the_middle_of_a_game():
    returns, discounts, steps, complete = n_step([1, 2, 3, 4, 5])
    assert returns[0] == pytest.approx(1 + 0.9 * 2 + 0.81 * 3)
    assert returns[1] == pytest.approx(2 + 0.9 * 3 + 0.81 * 4)
    assert discounts[:2] == pytest.approx([0.729, 0.729]) and list(steps[:2]) == [3, 3]
    assert list(complete) == [True, True, False, False, False]  # s_5 and later are not there yet


def test_n_step_return_of_a_lost_life_does_not_bootstrap():
    returns, discounts, steps, complete = n_step([1, 2, 3, 4, 5], terminations=[1])
    assert returns[:2] == pytest.approx([1 + 0.9 * 2, 2]) and list(steps[:2]) == [2, 1]
    assert list(discounts[:2]) == [0, 0] and discounts[2] > 0
    assert list(complete) == [True, True, False, False, False]


def test_n_step_return_of_a_finished_game_has_shorter_tails():
    returns, discounts, steps, complete = n_step([1, 2, 4, 0, 7, 8], terminations=[2], last=[3])
    assert returns[:3] == pytest.approx([1 + 0.9 * 2 + 0.81 * 4, 2 + 0.9 * 4, 4])
    assert list(discounts[:3]) == [0, 0, 0] and list(steps[:3]) == [3, 2, 1]
    assert list(complete) == [True, True, True, False, False, False]  # the last observation is no transition


def test_n_step_return_of_a_truncated_game_bootstraps_from_its_last_observation():
    returns, discounts, steps, complete = n_step([1, 2, 4, 0, 7, 8], last=[3])
    assert returns[:3] == pytest.approx([1 + 0.9 * 2 + 0.81 * 4, 2 + 0.9 * 4, 4])
    assert discounts[:3] == pytest.approx([0.729, 0.81, 0.9]) and list(steps[:3]) == [3, 2, 1]
    assert list(complete) == [True, True, True, False, False, False]


# ------------------------------------------------------------------------------------------------------- sum tree
@pytest.mark.parametrize("capacity", [1, 5, 37, 1000])  # none but the first a power of two
def test_sum_tree_agrees_with_a_cumulative_sum(capacity):
    rng, tree, priorities = np.random.default_rng(capacity), ca2e.SumTree(capacity), np.zeros(capacity)
    for _ in range(20):
        slots = rng.choice(capacity, size=rng.integers(1, capacity + 1), replace=False)
        priorities[slots] = rng.random(len(slots)) * rng.integers(0, 2, len(slots))  # a half of them zero
        tree.set(slots, priorities[slots])
        assert tree.nodes[1] == pytest.approx(priorities.sum())
        if priorities.sum() == 0:
            continue
        values = rng.random(500) * priorities.sum()
        want = np.searchsorted(np.cumsum(priorities), values, side="right")
        assert (tree.find(values) == want).all()


def test_sum_tree_never_finds_an_empty_slot_even_at_the_total():
    tree = ca2e.SumTree(6)
    tree.set(np.array([1, 3]), np.array([0.1, 0.2]))
    assert list(tree.find(np.array([0.0, 0.0999, 0.1001, tree.nodes[1], 1.0]))) == [1, 1, 3, 3, 3]


def test_importance_weights_by_hand():
    weights = ca2e.importance_weights(np.array([[1.0, 4.0, 16.0], [2.0, 2.0, 8.0]]), 0.5)
    assert weights == pytest.approx(np.array([[1, 0.5, 0.25], [1, 1, 0.5]]))
    # the definition, (N P(i))^-beta over the batch's largest, with N and the sum spelled out
    priorities, total, n = np.array([1.0, 4.0, 16.0]), 40.0, 12
    slow = (n * priorities / total) ** -0.5
    assert weights[0] == pytest.approx(slow / slow.max())


# ----------------------------------------------------------------------------------------------------------- loss
def test_double_q_loss_and_gradient_agree_with_a_slow_loop():
    torch.manual_seed(0)
    q_network, target_network = ca2e.QNetwork(with_actions(4)), ca2e.QNetwork(with_actions(4))
    states, next_states = (torch.randint(0, 256, (5, 4, 84, 84), dtype=torch.uint8) for _ in range(2))
    actions = torch.tensor([0, 3, 1, 1, 2])
    returns, discounts = torch.randn(5), torch.tensor([0.97, 0.0, 0.98, 0.97, 0.99])
    weights = torch.tensor([1.0, 0.5, 0.0, 0.25, 0.8])
    loss, td_errors, q_values = ca2e.double_q_loss(
        q_network, target_network, (states, actions, returns, discounts, next_states, weights))
    loss.backward()
    got = [parameter.grad.clone() for parameter in q_network.parameters()]
    q_network.zero_grad()
    total = torch.zeros(())
    for i in range(5):
        with torch.no_grad():
            online = q_network(next_states[i : i + 1])[0]
            best = max(range(4), key=lambda a: float(online[a]))
            target = float(returns[i]) + float(discounts[i]) * float(target_network(next_states[i : i + 1])[0, best])
        q = q_network(states[i : i + 1])[0, actions[i]]
        assert float(td_errors[i]) == pytest.approx(target - float(q.detach()), abs=1e-4)
        assert float(q_values[i]) == pytest.approx(float(q.detach()), abs=1e-5)
        total = total + weights[i] * 0.5 * (target - q) ** 2 / 5
    total.backward()
    assert float(loss.detach()) == pytest.approx(float(total.detach()), rel=1e-4)
    for mine, parameter in zip(got, q_network.parameters()):
        assert torch.allclose(mine, parameter.grad, atol=1e-5)
    assert all(parameter.grad is None for parameter in target_network.parameters())


def test_first_priorities_agree_with_a_slow_loop():
    torch.manual_seed(1)
    q_network, rng = ca2e.QNetwork(with_actions(3)), np.random.default_rng(1)
    states = rng.integers(0, 256, (6, 4, 84, 84)).astype(np.uint8)
    actions, after = np.array([0, 2, 1, 0, 1, 2]), np.array([3, 4, 5, 4, 5, 5])
    returns, discounts = rng.random(6).astype(np.float32), np.array([0.9, 0, 0.8, 0.9, 0.7, 0], np.float32)
    got = ca2e.first_priorities(q_network, states, actions, returns, discounts, after)
    for t in range(6):
        with torch.no_grad():
            q, q_after = q_network(torch.from_numpy(states[[t, after[t]]])).tolist()
        assert got[t] == pytest.approx(abs(returns[t] + discounts[t] * max(q_after) - q[actions[t]]), abs=1e-5)


def test_target_network_follows_inserted_transitions():
    args = ca2e.Args(target_network_frequency=100)
    agent, rng = ca2e.DQN(args, with_actions(3), torch.device("cpu"), global_step=250), np.random.default_rng(0)
    frames = rng.integers(0, 256, (2, 8, 4, 84, 84)).astype(np.uint8)
    column = np.ones(8, np.float32)
    batch = [torch.from_numpy(array) for array in (frames[0], np.zeros(8, np.int64), column, column, frames[1], column)]

    def bias(network):
        return network.network[-1].bias.detach().clone()

    before = bias(agent.target)
    agent.update(batch, 299)
    assert torch.equal(bias(agent.target), before) and not torch.equal(bias(agent.online), before)
    online = bias(agent.online)
    agent.update(batch, 300)
    assert torch.equal(bias(agent.target), online)


def test_the_average_follows_the_newest_weights_and_is_saved_beside_them():
    """Young at first, later 8e-4 an update; the reference adds up in float64."""
    args, rng = ca2e.Args(learning_rate=0.01, sync=True), np.random.default_rng(0)
    torch.manual_seed(0)
    agent, resumed = (ca2e.DQN(args, with_actions(3), torch.device("cpu"), 0) for _ in range(2))

    def last(network):
        return network.network[-1].weight.detach().double()

    want = last(agent.average)
    assert torch.equal(want, last(agent.online))
    for step, rate in ((40, 0.5), (360, 0.1), (10**6, 8e-4), (10**6, 8e-4)):
        frames, column = torch.from_numpy(rng.integers(0, 256, (2, 8, 4, 84, 84), dtype=np.uint8)), torch.ones(8)
        agent.update([frames[0], torch.zeros(8, dtype=torch.int64), column, column, frames[1], column], step)
        want = (1 - rate) * want + rate * last(agent.online)
        assert (last(agent.average) - want).abs().max() < 1e-6
    assert (last(agent.average) - last(agent.online)).abs().max() > 1e-3
    saved = {name: deepcopy(part.state_dict()) for name, part in agent.parts.items()}
    free = ca2e.DQN(ca2e.Args(samples_per_insert=0), with_actions(3), torch.device("cpu"), 0)
    free.update([frames[0], torch.zeros(8, dtype=torch.int64), column, column, frames[1], column], 10**6)
    assert torch.equal(last(free.average), last(free.online))  # running free nobody counts updates: no average
    assert torch.equal(saved["network"]["network.10.weight"].double(), last(agent.average))  # what --evaluate plays
    ca2e.load_agent(Path("agent.pt"), resumed, saved)
    for one, other in ((agent.average, resumed.average), (agent.online, resumed.online), (agent.target, resumed.target)):
        assert torch.equal(last(one), last(other))


@pytest.mark.parametrize("cores, shares", [(2, 2), (3, 3), (64, 4)])
def test_a_batch_shared_by_cores_gives_the_update_of_the_whole(cores, shares):
    rng, torch_seed = np.random.default_rng(3), torch.manual_seed(3).initial_seed()
    args = ca2e.Args(batch_size=7, learning_rate=1e-2)  # shares of 4 and 3; 3, 3 and 1; 2, 2, 2 and 1
    frames = rng.integers(0, 256, (2, 7, 4, 84, 84)).astype(np.uint8)
    columns = rng.random((3, 7)).astype(np.float32)
    batch = [torch.from_numpy(array) for array in (frames[0], rng.integers(3, size=7), *columns[:2], frames[1],
                                                   columns[2])]
    found = []
    for threads in (1, cores):
        torch.set_num_threads(threads)
        torch.manual_seed(torch_seed)
        agent = ca2e.DQN(args, with_actions(3), torch.device("cpu"), 0)
        assert agent.shares == (shares if threads > 1 else 1) and torch.get_num_threads() == 1
        td_errors, metrics = agent.update(batch, 0)
        gradients = [parameter.grad for parameter in agent.online.parameters()]
        for parameter in agent.online.parameters():  # what the fused Adam takes for granted
            assert parameter.grad.stride() == parameter.stride()
        found.append([td_errors, metrics["losses/td_loss"], metrics["losses/q_values"], *gradients])
    for whole, shared in zip(*found):
        assert torch.allclose(whole, shared, atol=1e-6) and whole.abs().sum() > 0


@pytest.mark.parametrize("has", [True, False])
def test_bfloat16_is_for_cpus_that_compute_with_it(has, monkeypatch):
    said = []
    monkeypatch.setattr(ca2e, "say", said.append)
    torch.set_num_threads(2)
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_bf16": True} if has else {"neon": True})
    agent = ca2e.DQN(ca2e.Args(bf16=True), with_actions(3), torch.device("cpu"), 0)
    assert agent.bf16 is has
    rng, column = np.random.default_rng(0), torch.ones(4)
    states = torch.from_numpy(rng.integers(0, 256, (4, 4, 84, 84)).astype(np.uint8))
    td_errors, _ = agent.update([states, torch.zeros(4, dtype=torch.int64), column, column, states, column], 0)
    assert td_errors.isfinite().all()
    assert ["in float32" in line for line in said] == ([] if has else [True])


# --------------------------------------------------------------------------------------- retirement, epsilon ladder
@pytest.mark.parametrize("average, threshold", [(20.0, 21.0), (0.0, 0.0), (-10.0, -9.5)])
def test_a_prior_retires_after_several_evaluations_above_its_own(average, threshold):
    above, below = threshold + 1e-6, threshold - 1e-6
    assert ca2e.retires([below, above, above, above], average, 1.05, 3)
    assert not ca2e.retires([above, above, above, below], average, 1.05, 3)
    assert not ca2e.retires([above, below, above, above], average, 1.05, 3)
    assert not ca2e.retires([above, above], average, 1.05, 3)


def test_a_retired_prior_takes_the_ladders_next_place_and_stays_retired():
    replay, args = make_replay(averages=[-10.0, 20.0])
    for r in (-9.0, -9.0):
        replay.evaluated(0, np.array([r]))
    assert replay.state["roles"] == [0, 1, None, None]
    replay.evaluated(0, np.array([-8.0, -9.0]))
    assert replay.state["roles"] == [0, 1, 2, None]
    assert replay.add(2, 0, 10, *NOTHING, [])[0] == 2 and replay.add(3, 0, 10, *NOTHING, [])[0] is None
    for r in (-21.0, 22.0, 22.0, 22.0):
        replay.evaluated(0, np.array([r]))
    assert replay.state["roles"] == [0, 1, 2, 3]
    assert replay.state["evaluations"] == [-9, -9, -8.5, -21, 22, 22, 22]


def test_epsilon_ladder():
    args = ca2e.Args(num_nature_actors=5, start_e=1.0, min_start_e=0.2, end_e=0.1, exploration_steps=1000)
    assert [ca2e.epsilon_ladder(i, 0, args) for i in range(5)] == pytest.approx([1.0, 0.8, 0.6, 0.4, 0.2])
    assert ca2e.epsilon_ladder(1, 500, args) == pytest.approx(0.45)
    assert [ca2e.epsilon_ladder(i, 1000, args) for i in range(5)] == pytest.approx([0.1] * 5)
    assert ca2e.epsilon_ladder(3, 10**6, args) == pytest.approx(0.1)
    assert ca2e.epsilon_ladder(6, 0, args) == pytest.approx(0.8)  # the second retired prior of five
    assert ca2e.epsilon_ladder(0, 0, ca2e.Args(num_nature_actors=0)) == 1.0


# ------------------------------------------------------------------------------------------- replay and rate limit
def test_priorities_decide_how_often_a_transition_is_sampled():
    replay, _ = make_replay(per_alpha=0.5, batch_size=10)
    ids = np.arange(8)
    replay.add(0, 0, 10, ids, np.array([0, 1, 4, 9, 16, 0, 0, 25.0]), [])
    counts = np.zeros(8)
    for _ in range(100):
        got, weights, _, _ = replay.sample(*NOTHING)
        np.add.at(counts, got.ravel(), 1)
    assert counts / counts.sum() == pytest.approx(np.array([0, 1, 2, 3, 4, 0, 0, 5]) / 15, abs=0.01)
    expected = np.sqrt(np.array([0, 1, 4, 9, 16, 0, 0, 25]) + 1e-6)[got] ** -0.4
    assert weights == pytest.approx(expected / expected.max(axis=1, keepdims=True), rel=1e-4)


def test_learned_priorities_replace_the_first_and_late_ones_are_dropped():
    replay, args = make_replay(per_alpha=1.0)
    replay.add(0, 0, 10, np.arange(7), np.ones(7), [])
    replay.sample(np.array([3]), np.array([5.0]))
    leaves = replay.tree.nodes[replay.tree.leaves :]
    assert leaves[3] == pytest.approx(5.0) and leaves[2] == pytest.approx(1.0)
    replay.sample(np.array([3 + replay.capacity, 60]), np.array([9.0, 9.0]))  # another lap's, and never inserted
    assert leaves[3] == pytest.approx(5.0) and leaves[60] == 0
    replay.add(0, 0, 50, np.arange(7, 47), np.ones(40), [])  # blocks up to the end of the part of 50 ...
    assert (leaves[:13] == 0).all() and leaves[13] == pytest.approx(1.0)  # ... the next block overwrites 0..9 + 3
    replay.sample(np.array([3]), np.array([7.0]))
    assert leaves[3] == 0
    lap = np.arange(7) + replay.capacity
    replay.add(0, 0, 60, lap, np.full(7, 2.0), [])
    replay.sample(np.array([3]), np.array([7.0]))
    assert leaves[3] == pytest.approx(2.0)


def test_a_block_of_a_dead_actor_that_comes_after_its_successor_joined_is_dropped():
    replay, args = make_replay()
    life, head, _, _ = replay.join(1)
    replay.add(1, life, head + 10, np.arange(50, 57), np.ones(7), [])
    successor, head, role, step = replay.join(1)
    assert (head, role, step) == (10, 1, 7) and successor != life
    replay.add(1, life, 20, np.arange(57, 67), np.ones(10), [(3.0, 10)])
    assert replay.step() == 7 and replay.inserted == 7 and replay.heads[1] == 10 and not replay.events
    assert (replay.tree.nodes[replay.tree.leaves + 57 :] == 0).all()
    replay.add(1, successor, 20, np.arange(57, 67), np.ones(10), [])
    assert replay.step() == 17 and replay.heads[1] == 20


def test_the_shares_of_the_prior_actors_in_replay_and_batches():
    replay, args = make_replay(averages=[-10.0], per_alpha=1.0)
    shares = "prior_replay_share", "prior_batch_share"
    replay.add(0, 0, 30, np.arange(30), np.ones(30), [])
    replay.add(2, 0, 10, np.arange(100, 110), np.full(10, 9.0), [])  # a quarter of the replay, three of the priorities
    _, _, state, _ = replay.sample(*NOTHING)
    assert state[shares[0]] == pytest.approx(0.25) and state[shares[1]] == pytest.approx(0.75, abs=0.05)
    for r in (-5.0, -5.0, -5.0):
        replay.evaluated(0, np.array([r]))
    replay.add(2, 0, 20, np.arange(110, 120), np.full(10, 9.0), [])  # the same actor, after its prior retired
    _, _, state, _ = replay.sample(*NOTHING)
    assert state[shares[0]] == pytest.approx(0.2) and state[shares[1]] == pytest.approx(90 / 210, abs=0.05)
    for head, first in ((30, 120), (40, 130), (50, 140)):  # the last one clears what the prior made in slots 100 to 112
        replay.add(2, 0, head, np.arange(first, first + 10), np.ones(10), [])
    _, _, state, _ = replay.sample(*NOTHING)
    assert state[shares[0]] == state[shares[1]] == 0


def test_a_transition_overwritten_since_it_was_sampled_weighs_nothing():
    args = ca2e.Args(num_nature_actors=2, num_prior_actors=0, buffer_size=100, local_buffer_size=10)
    fields = [(name, int) for name in ("id", "action", "return", "discount", "steps", "age", "frame")]
    store = np.zeros(100, fields)
    store["id"], store["age"] = np.arange(100), 4
    weights = np.ones(3, np.float32)
    ids = np.array([20, 23, 70])
    assert list(ca2e.gather(store, ids, weights, args)[-1]) == [1, 1, 1]
    store["id"][17] += 100  # the oldest frame of slot 20's stack now belongs to the next lap
    assert list(ca2e.gather(store, ids, weights, args)[-1]) == [0, 1, 1]
    store["age"][20] = 2  # its game began at slot 18: slot 17 is no part of it
    assert list(ca2e.gather(store, ids, weights, args)[-1]) == [1, 1, 1]


def test_rate_limit():
    args = ca2e.Args(samples_per_insert=8, learning_starts=1000, batch_size=32, local_buffer_size=50)
    slack = 8 * 50 + 32 * 32
    assert ca2e.may_insert(0, 0, args) and ca2e.may_insert(1000, 0, args)
    assert ca2e.may_insert(1000 + slack // 8, 0, args) and not ca2e.may_insert(1001 + slack // 8, 0, args)
    assert ca2e.may_insert(1001 + slack // 8, 8, args)
    assert ca2e.may_sample(999, 0, args) == 0 and ca2e.may_sample(1000, 0, args) == 0
    assert ca2e.may_sample(1003, 0, args) == 0 and ca2e.may_sample(1004, 0, args) == 1  # 32 samples for 4 inserts
    assert ca2e.may_sample(1100, 0, args) == 25 and ca2e.may_sample(1100, 32 * 24, args) == 1
    assert ca2e.may_sample(10**6, 0, args) == ca2e.BATCHES_PER_CALL
    free = ca2e.Args(samples_per_insert=0, learning_starts=1000)
    assert ca2e.may_insert(10**6, 0, free) and ca2e.may_sample(1000, 10**9, free) and not ca2e.may_sample(999, 0, free)


def test_actors_held_by_the_rate_limit_take_turns():
    replay, args = make_replay(learning_starts=100, samples_per_insert=1.0)
    replay.inserted = 10_000
    assert [replay.my_turn(i) for i in (1, 0, 1)] == [False, False, False]
    replay.sampled = 10_000
    assert not replay.my_turn(0)  # actor 1 came first
    assert replay.my_turn(1) and replay.my_turn(0)
    replay.inserted = 30_000
    assert not replay.my_turn(1)
    replay.join(1)  # it died while it waited, and starts again
    replay.sampled = 30_000
    assert replay.my_turn(0)


def test_an_actor_that_hangs_holds_up_nobody_for_long(monkeypatch):
    replay, args = make_replay(learning_starts=100, samples_per_insert=1.0)
    now = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    replay.inserted = 10_000
    assert not replay.my_turn(1) and not replay.my_turn(0)
    replay.sampled = 10_000
    now[0] += 9
    assert not replay.my_turn(0)  # actor 1 came first
    now[0] += 2
    assert replay.my_turn(0)


def test_no_actor_inserts_beyond_the_total():
    replay, args = make_replay(total_timesteps=2000)
    assert replay.my_turn(0)
    replay.state["global_step"] = 2000
    assert not replay.my_turn(0)


# ---------------------------------------------------------------------------------------------------------- weights
def test_published_weights_arrive_and_a_half_written_vector_is_never_taken(monkeypatch):
    learner, actor = torch.nn.Linear(3, 2), torch.nn.Linear(3, 2)
    weights = ca2e.SharedArray(1, [("version", np.int64), ("vector", np.float32, (8,))])
    ca2e.publish(weights, learner)
    version = ca2e.newest_weights(weights, actor, -1)
    assert version == 2 and torch.equal(actor.weight, learner.weight) and torch.equal(actor.bias, learner.bias)
    before = actor.weight.clone()
    assert ca2e.newest_weights(weights, actor, version) == version
    weights.array["version"] += 1  # the learner is in the middle of a publication
    weights.array["vector"] = 7.0
    sleeps = []

    def finish(seconds):
        sleeps.append(torch.equal(actor.weight, before))
        weights.array["version"] += 1

    monkeypatch.setattr(time, "sleep", finish)
    assert ca2e.newest_weights(weights, actor, version) == 4
    assert sleeps == [True] and (actor.weight == 7.0).all()


@pytest.mark.parametrize("script, env_id", [(ca2e, "PongNoFrameskip-v4"), (ddpg, "InvertedPendulum-v5")])
def test_the_evaluator_plays_the_second_of_the_published_networks(script, env_id, monkeypatch):
    make, whole, play = ((script.make_atari, script.QNetwork, "play_atari") if script is ca2e
                         else (script.make_control, script.ActorCritic, "play_control"))
    newest, average = whole(make(env_id)), whole(make(env_id))
    size = sum(parameter.numel() for parameter in newest.parameters())
    weights, played = script.SharedArray(2, [("version", np.int64), ("vector", np.float32, (size,))]), []
    script.publish(weights, newest, average)
    state = {"global_step": 0, "prior_steps": 0, "updates": 0, "roles": [0], "evaluations": []}
    args = script.Args(env_id=env_id, num_nature_actors=1, num_prior_actors=0, eval_frequency=100)
    replay = script.PrioritizedReplay(args, [], state)
    monkeypatch.setattr(script, play, lambda env_id, network, *_: played.append(network) or np.zeros(1))
    rounds = script.evaluator(args, replay, weights)
    next(rounds)
    state["global_step"] = 100
    next(rounds)
    want = average.network if script is ca2e else average.actor.network
    got = (played[0].network if script is ca2e else played[0].network).parameters()
    assert len(played) == 1 and all(torch.equal(one, other) for one, other in zip(got, want.parameters()))
