"""The pure parts of CA2E-DQN against literals worked by hand, brute force and slow loops."""

import time
from copy import deepcopy
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from gymnasium.spaces import Discrete

import ca2e_ddpg_mujoco as ddpg
import ca2e_dqn_atari as ca2e


def make_replay(actors=2, **settings):
    """A replay in this process: rings of 100 slots, blocks of 10 and n = 3, so that 14 slots are filled at a time."""
    defaults = {"num_nature_actors": actors, "num_prior_actors": 0, "local_buffer_size": 10, "batch_size": 8,
                "total_timesteps": 10**9, "buffer_size": 100 * actors, "learning_starts": 0, "samples_per_insert": 0.0}
    args = ca2e.Args(**{**defaults, **settings})
    return ca2e.PrioritizedReplay(args, {"global_step": 0, "prior_steps": 0, "evaluations": []}), args


NOTHING = np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0)


def with_actions(number):
    """As much of an Atari environment as a network needs to know."""
    return SimpleNamespace(single_action_space=Discrete(number))


# ------------------------------------------------------------------------------------------------- n-step returns
@pytest.mark.parametrize("script", [ca2e, ddpg])
@pytest.mark.parametrize("rewards, terminations, want", [
    ([1, 2, 3], [False, False, False], (1 + 0.9 * 2 + 0.81 * 3, 0.729, 3)),
    ([1, 2, 3], [False, True, False], (1 + 0.9 * 2, 0, 2)),  # what follows a termination does not count
    ([1, 2, 3], [False, False, True], (1 + 0.9 * 2 + 0.81 * 3, 0, 3)),
    ([1, 2], [False, False], (1 + 0.9 * 2, 0.81, 2)),  # truncated: it bootstraps
    ([5], [True], (5, 0, 1)), ([-1, 0, 0, 2], [False] * 4, (-1 + 0.729 * 2, 0.6561, 4)),
])
def test_n_step_return_by_hand(script, rewards, terminations, want):
    assert script.n_step_return(rewards, terminations, 0.9) == pytest.approx(want)


class Recorder:
    """A replay that takes what an actor delivers."""

    def __init__(self):
        self.calls = []

    def add(self, *call):
        self.calls.append(call)
        return 0, []


def test_the_local_buffer_cuts_windows_at_a_games_end_and_delivers_every_step_once(monkeypatch):
    """Two games, of 7 steps (truncated) and 4 (lost, a life lost before), in blocks of 5 with n = 3, by hand."""
    args = ca2e.Args(num_nature_actors=1, num_prior_actors=0, local_buffer_size=5, n_step=3, gamma=0.5, buffer_size=64)
    names = ("count", "return", "discount", "k", "action", "episode_step", "frame")
    store, replay = np.zeros(64, [(name, float) for name in names]), Recorder()
    monkeypatch.setattr(ca2e, "first_priorities", lambda network, states, actions, returns, discounts, k: returns + 100)
    buffer = ca2e.LocalBuffer(args, store, 0, 60)  # its records go round the ring's end
    rewards = [1, 2, 4, 8, 16, 32, 64, None, 1, 1, 2, 4, None, 7, 7, 7, 7, 7, 7]
    episode_step = 0
    for t, reward in enumerate(rewards):
        final = reward is None
        buffer.append(np.array([t]), t, reward or 0.0, t in (9, 11), episode_step, final)
        if final:
            buffer.episodes.append((float(t), t))
        episode_step = 0 if final else episode_step + 1
        if len(buffer.steps) >= 5 + 3:
            buffer.deliver(replay, None, False)
    assert [call[5] for call in replay.calls] == [[(7.0, 7)], [(12.0, 12)], []]  # each episode is reported once
    counts = np.concatenate([call[2] for call in replay.calls]) - 60
    assert list(counts) == [0, 1, 2, 3, 4, 5, 6, 8, 9, 10, 11, 13, 14]  # 7 and 12 are final states
    assert [call[1] - 60 for call in replay.calls] == [8, 13, 18] and [len(call[2]) for call in replay.calls] == [5, 4, 4]
    assert np.concatenate([call[3] for call in replay.calls]) == pytest.approx(
        np.array([3, 6, 12, 24, 48, 64, 64, 1.5, 1, 4, 4, 12.25, 12.25]) + 100)
    slots = (60 + counts) % 64
    assert store["return"][slots] == pytest.approx([3, 6, 12, 24, 48, 64, 64, 1.5, 1, 4, 4, 12.25, 12.25])
    assert list(store["k"][slots]) == [3, 3, 3, 3, 3, 2, 1, 2, 1, 2, 1, 3, 3]
    assert list(store["discount"][slots]) == [0.125] * 5 + [0.25, 0.5] + [0] * 4 + [0.125] * 2
    assert list(store["count"][slots] - 60) == list(counts) and list(store["frame"][slots]) == list(counts)
    assert list(store["episode_step"][slots]) == [0, 1, 2, 3, 4, 5, 6, 0, 1, 2, 3, 0, 1]


@pytest.mark.parametrize("script", [ca2e, ddpg])
def test_first_priorities_get_all_states_and_the_actions_that_were_taken_there(script, monkeypatch):
    args = script.Args(num_nature_actors=1, num_prior_actors=0, local_buffer_size=2, n_step=3, buffer_size=64)
    names, seen = ("count", "return", "discount", "k", "action", "episode_step", "frame"), []
    monkeypatch.setattr(script, "first_priorities", lambda network, states, actions, returns, discounts, k: (
        seen.append((network, states.ravel().tolist(), actions.tolist(), list(k))) or np.ones(len(actions))))
    buffer = script.LocalBuffer(args, np.zeros(64, [(name, float) for name in names]), 0, 0)
    for t in range(5):
        buffer.append(np.array([t]), 10 + t, 1.0, t == 2, t)
    buffer.deliver(Recorder(), "network", False)
    assert seen == [("network", [0, 1, 2, 3, 4], [10, 11], [3, 2])]


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
def make_agent(**settings):
    return ca2e.DQN(ca2e.Args(**settings), with_actions(3), torch.device("cpu"))


def random_batch(rng, size, actions=3):
    frames = rng.integers(0, 256, (2, size, 4, 84, 84)).astype(np.uint8)
    columns = rng.random((3, size)).astype(np.float32)
    return [torch.from_numpy(array) for array in (
        frames[0], rng.integers(actions, size=size), columns[0], columns[1], frames[1], columns[2])]


def test_the_double_dqn_loss_and_its_gradient_agree_with_a_slow_loop():
    torch.manual_seed(0)
    agent = make_agent(batch_size=5)
    agent.target.load_state_dict(ca2e.QNetwork(with_actions(3)).state_dict())
    batch = random_batch(np.random.default_rng(0), 5)
    states, actions, returns, discounts, next_states, weights = batch
    discounts[1] = weights[2] = 0
    loss, td_errors, q_values = agent.loss(*batch)
    got = torch.autograd.grad(loss, agent.theta)
    total = torch.zeros(())
    for i in range(5):
        with torch.no_grad():
            online = agent.online(next_states[i : i + 1])[0]
            best = max(range(3), key=lambda a: float(online[a]))
            target = float(returns[i]) + float(discounts[i]) * float(agent.target(next_states[i : i + 1])[0, best])
        q = agent.online(states[i : i + 1])[0, actions[i]]
        assert float(td_errors[i]) == pytest.approx(target - float(q.detach()), abs=1e-4)
        assert float(q_values[i]) == pytest.approx(float(q.detach()), abs=1e-5)
        total = total + weights[i] * 0.5 * (target - q) ** 2 / 5
    assert float(loss.detach()) == pytest.approx(float(total.detach()), rel=1e-4)
    for mine, slow in zip(got, torch.autograd.grad(total, agent.theta)):
        assert torch.allclose(mine, slow, atol=1e-5)
    assert all(parameter.grad is None for parameter in agent.target.parameters())


def test_gradients_are_clipped_to_10_and_each_metric_has_its_own_name():
    torch.manual_seed(0)
    agent, batch = make_agent(batch_size=8), random_batch(np.random.default_rng(0), 8)
    batch[2] += 1e6
    loss, _, q_values = agent.loss(*batch)
    _, metrics = agent.update(batch, 0)
    norm = torch.cat([parameter.grad.flatten() for parameter in agent.theta]).norm()
    assert float(norm) == pytest.approx(10, rel=1e-3)
    assert float(metrics["losses/td_loss"]) == pytest.approx(float(loss.detach()), rel=1e-4)
    assert float(metrics["losses/q_values"]) == pytest.approx(float(q_values.mean()), abs=1e-5)


def test_first_priorities_agree_with_a_slow_loop():
    torch.manual_seed(1)
    q_network, rng = ca2e.QNetwork(with_actions(3)), np.random.default_rng(1)
    states = rng.integers(0, 256, (6, 4, 84, 84)).astype(np.uint8)
    actions, k = np.array([0, 2, 1, 0]), np.array([2, 3, 1, 2])
    returns, discounts = rng.random(4), np.array([0.9, 0, 0.8, 0.9])
    got = ca2e.first_priorities(q_network, states, actions, returns, discounts, k)
    for t in range(4):
        with torch.no_grad():
            q, q_after = q_network(torch.from_numpy(states[[t, t + k[t]]])).tolist()
        assert got[t] == pytest.approx(abs(returns[t] + discounts[t] * max(q_after) - q[actions[t]]), abs=1e-5)


def test_the_target_network_follows_inserted_transitions():
    agent, batch = make_agent(target_network_frequency=100, batch_size=8), random_batch(np.random.default_rng(0), 8)

    def bias(network):
        return network.network[-1].bias.detach().clone()

    agent.update(batch, 250)
    before = bias(agent.target)
    agent.update(batch, 299)
    assert torch.equal(bias(agent.target), before) and not torch.equal(bias(agent.online), before)
    online = bias(agent.online)
    agent.update(batch, 300)
    assert torch.equal(bias(agent.target), online)


def test_the_average_follows_the_newest_weights_by_the_updates_that_were_made():
    """Young at first, later 8e-4 an update; the reference adds up in float64."""
    torch.manual_seed(0)
    agent, batch = make_agent(learning_rate=0.01, batch_size=8), random_batch(np.random.default_rng(0), 8)

    def last(network):
        return network.network[-1].weight.detach().double()

    want = last(agent.average)
    assert torch.equal(want, last(agent.online))
    for update, rate in ((0, 10 / 11), (1, 10 / 12), (989, 0.01), (10**6, 8e-4), (10**6 + 1, 8e-4)):
        agent.updates = update
        agent.update(batch, 0)
        assert agent.updates == update + 1
        want = (1 - rate) * want + rate * last(agent.online)
        assert (last(agent.average) - want).abs().max() < 1e-6
    assert (last(agent.average) - last(agent.online)).abs().max() > 1e-3


def test_soft_update():
    target, source = torch.nn.Linear(3, 2), torch.nn.Linear(3, 2)
    before = deepcopy(target)
    ca2e.soft_update(target, source, 0.25)
    assert torch.allclose(target.weight, 0.75 * before.weight + 0.25 * source.weight)
    assert torch.allclose(target.bias, 0.75 * before.bias + 0.25 * source.bias)
    ca2e.soft_update(target, source, 1.0)
    assert torch.equal(target.weight, source.weight) and torch.equal(target.bias, source.bias)


@pytest.mark.parametrize("cores", [2, 3, 4])
def test_a_batch_shared_by_cores_gives_the_update_of_the_whole(cores):
    batch, found = random_batch(np.random.default_rng(3), 7), []  # shares of 4 and 3; 3, 3 and 1; 2, 2, 2 and 1
    for threads in (1, cores):
        torch.manual_seed(3)
        agent = ca2e.DQN(ca2e.Args(batch_size=7, learning_rate=1e-2), with_actions(3), torch.device("cpu"), threads)
        td_errors, metrics = agent.update(batch, 0)
        for parameter in agent.online.parameters():  # what the fused Adam takes for granted
            assert parameter.grad.stride() == parameter.stride()
        found.append([td_errors, *metrics.values(), *(parameter.grad for parameter in agent.theta)])
    for whole, shared in zip(*found):
        assert torch.allclose(whole, shared, atol=1e-6) and whole.abs().sum() > 0


@pytest.mark.filterwarnings("ignore:TF32")
@pytest.mark.parametrize("cores", [1, 2])
def test_without_onednn_each_weight_moves_against_its_own_gradient(cores):
    batch, agent = random_batch(np.random.default_rng(3), 32), make_agent(batch_size=32)
    agent.pool = ca2e.ThreadPoolExecutor(cores) if cores > 1 else None
    before = [parameter.detach().clone() for parameter in agent.theta]
    with torch.backends.mkldnn.flags(enabled=False):  # then the gradients of a convolution may lie in another order
        agent.update(batch, 0)
    for old, new in zip(before, agent.theta):
        step = (new - old)[new.grad.abs() > 1e-7]  # Adam's first: the learning rate times the sign
        assert (step.sign() == -new.grad.sign()[new.grad.abs() > 1e-7]).all()


# ----------------------------------------------------------------------------------------- retirement, exploration
@pytest.mark.parametrize("average, threshold", [(20.0, 21.0), (0.0, 0.0), (-10.0, -9.5)])
def test_a_prior_is_surpassed_by_several_evaluations_in_a_row_and_for_good(average, threshold):
    above, below = threshold + 1e-6, threshold - 1e-6
    assert ca2e.surpassed([below, above, above, above], average, 1.05, 3)
    assert ca2e.surpassed([above, above, above, below, below], average, 1.05, 3)  # ever: it does not come back
    assert not ca2e.surpassed([above, above, below, above, above], average, 1.05, 3)
    assert not ca2e.surpassed([above, above], average, 1.05, 3) and not ca2e.surpassed([], average, 1.05, 1)
    assert ca2e.surpassed([below, above], average, 1.05, 1)


def test_epsilon_of_each_actor():
    args = ca2e.Args(num_nature_actors=5, start_e=1.0, min_start_e=0.2, end_e=0.1, exploration_steps=1000)
    assert [ca2e.epsilon_of(i, 0, args) for i in range(5)] == pytest.approx([1.0, 0.8, 0.6, 0.4, 0.2])
    assert ca2e.epsilon_of(1, 500, args) == pytest.approx(0.45)
    assert [ca2e.epsilon_of(i, 1000, args) for i in range(8)] == pytest.approx([0.1] * 8)
    assert ca2e.epsilon_of(3, 10**6, args) == pytest.approx(0.1)
    assert [ca2e.epsilon_of(i, 0, args) for i in (5, 7)] == pytest.approx([0.2, 0.2])  # a retired prior explores least
    assert ca2e.epsilon_of(0, 0, ca2e.Args(num_nature_actors=0)) == pytest.approx(0.2)
    assert ca2e.epsilon_of(0, 0, ca2e.Args(num_nature_actors=1)) == 1.0


# ------------------------------------------------------------------------------------------- replay and rate limit
def test_priorities_decide_how_often_a_transition_is_sampled():
    replay, _ = make_replay(per_alpha=0.5, batch_size=10)
    replay.add(0, 10, np.arange(8), np.array([0, 1, 4, 9, 16, 0, 0, 25.0]), False, [])
    times = np.zeros(8)
    for _ in range(1000):
        slots, counts, weights, _, _ = replay.sample(*NOTHING)
        assert (slots == counts).all()  # actor 0's first lap
        np.add.at(times, slots.ravel(), 1)
    assert times / times.sum() == pytest.approx(np.array([0, 1, 2, 3, 4, 0, 0, 5]) / 15, abs=0.01)
    expected = np.sqrt(np.array([0, 1, 4, 9, 16, 0, 0, 25]) + 1e-6)[slots] ** -0.4
    assert weights == pytest.approx(expected / expected.max(axis=1, keepdims=True), rel=1e-4)


def test_a_batch_takes_one_draw_of_each_stratum():
    replay, _ = make_replay(batch_size=8)
    replay.add(0, 10, np.arange(8), np.ones(8), False, [])
    slots, *_ = replay.sample(*NOTHING)
    assert len(slots) and (np.sort(slots, axis=1) == np.arange(8)).all()  # [PER, B.2.1]: eight equal priorities, each once


def test_learned_priorities_replace_the_first_late_ones_are_dropped_and_old_experience_goes():
    replay, args = make_replay(per_alpha=1.0)
    leaves = replay.tree.nodes[replay.tree.leaves :]

    def learned(slot, count, priority):
        replay.sample(np.array([slot]), np.array([count]), np.array([priority]))

    replay.add(1, 10, np.arange(7), np.ones(7), False, [])  # actor 1's ring is slots 100 to 199
    learned(103, 3, 5.0)
    assert leaves[103] == pytest.approx(5.0) and leaves[102] == pytest.approx(1.0)
    learned(103, 103, 9.0)  # of the next lap, which is not there yet
    learned(160, 60, 9.0)  # never inserted
    assert leaves[103] == pytest.approx(5.0) and leaves[160] == 0
    replay.add(1, 100, np.arange(7, 97), np.ones(90), False, [])  # up to the ring's end: the next block fills slots
    assert (leaves[100:117] == 0).all() and leaves[117] == pytest.approx(1.0)  # ... 0 to 13, which 16 needs as well
    learned(103, 3, 7.0)
    assert leaves[103] == 0 and replay.counts[103] == -1
    replay.add(1, 110, 100 + np.arange(7), np.full(7, 2.0), False, [])
    learned(103, 3, 7.0)
    assert leaves[103] == pytest.approx(2.0) and replay.counts[103] == 103
    told = replay.sample(*NOTHING)[3]
    replay.add(1, 111, np.array([107]), np.ones(1), False, [])
    assert told["global_step"] == 104 and replay.progress["global_step"] == 105  # told: pickled without the lock


def test_refreshed_priorities_have_the_exponent_alpha_and_are_never_zero():
    replay, _ = make_replay(per_alpha=0.5)
    replay.add(0, 10, np.arange(7), np.full(7, 9.0), False, [])
    replay.sample(np.array([3, 4]), np.array([3, 4]), np.array([16.0, 0.0]))
    assert replay.tree.nodes[replay.tree.leaves :][2:5] == pytest.approx([3, 4, 1e-3], rel=1e-3)


def test_a_resumed_replay_counts_its_own_transitions_alone():
    _, args = make_replay(samples_per_insert=8.0, learning_starts=20)
    replay = ca2e.PrioritizedReplay(args, {"global_step": 5000, "prior_steps": 0, "evaluations": []})
    replay.add(0, 13, np.arange(10), np.ones(10), False, [])
    assert replay.sample(*NOTHING)[0].shape == (0, 8)  # 10 of the 20 that it waits for
    replay.add(0, 26, np.arange(13, 26), np.ones(13), False, [])
    assert replay.sample(*NOTHING)[0].shape == (1, 8)


@pytest.mark.parametrize("script", [ca2e, ddpg])
def test_an_actor_that_joins_or_delivers_is_told_the_step_and_all_evaluations(script):
    args = script.Args(num_nature_actors=2, num_prior_actors=0, buffer_size=500, total_timesteps=500)
    replay = script.PrioritizedReplay(args, {"global_step": 7, "prior_steps": 0, "evaluations": [1.0, 2.0]})  # resumed
    assert replay.join(1)[1:] == (7, [1.0, 2.0])
    replay.report("evaluation", 9, np.array([3.0, 5.0]))
    assert replay.add(1, 70, 54 + np.arange(8), np.ones(8), True, []) == (15, [1.0, 2.0, 4.0])
    assert replay.join(1)[1:] == (15, [1.0, 2.0, 4.0])  # so that a prior that had retired stays so


def test_an_actor_that_starts_again_skips_what_the_dead_may_have_written_and_a_late_block_is_harmless():
    replay, args = make_replay()
    assert args.block_size == 14
    assert replay.join(1) == (14, 0, [])
    replay.add(1, 27, 14 + np.arange(10), np.ones(10), False, [])
    assert replay.join(1) == (41, 10, [])  # 27, and the 14 that may be half written
    leaves = replay.tree.nodes[replay.tree.leaves + 100 :]
    assert (leaves[14:24] > 0).all() and (leaves[24:] == 0).all()
    replay.add(1, 37, 24 + np.arange(10), np.ones(10), False, [])  # the dead one's last block comes late: it was whole
    assert replay.next_counts[1] == 41 and (leaves[24:34] > 0).all()
    replay.add(1, 54, 41 + np.arange(10), np.ones(10), False, [])
    assert replay.next_counts[1] == 54 and replay.join(1) == (68, 30, [])
    assert replay.counts[141] == 41 and replay.counts[140] == -1


def test_what_add_answers_and_reports_and_an_empty_replay():
    replay, _ = make_replay()
    assert replay.sample(*NOTHING)[0].shape == (0, 8)
    replay.report("evaluation", 7, np.array([1.0, 3.0]))
    assert replay.add(0, 10, np.arange(7), np.ones(7), True, [(5.0, 20)]) == (7, [2.0])
    _, _, _, state, events = replay.sample(*NOTHING)
    assert state == {"global_step": 7, "prior_steps": 7, "evaluations": [2.0]}
    assert events[0][:2] == ("evaluation", 7) and events[1] == ("episode", True, 5.0, 20)
    assert replay.sample(*NOTHING)[4] == []


def test_a_transition_overwritten_since_it_was_sampled_weighs_nothing():
    args = ca2e.Args(num_nature_actors=2, num_prior_actors=0, buffer_size=100, total_timesteps=1000)
    store = np.zeros(100, [(name, int) for name in ("count", "action", "return", "discount", "k", "episode_step", "frame")])
    store["count"], store["episode_step"] = np.tile(np.arange(50), 2), 4
    weights, slots, counts = np.ones(3, np.float32), np.array([20, 23, 70]), np.array([20, 23, 20])
    assert list(ca2e.gather(store, slots, counts, weights, args)[-1]) == [1, 1, 1]
    store["count"][17] += 50  # the oldest frame of slot 20's stack now belongs to the next lap
    assert list(ca2e.gather(store, slots, counts, weights, args)[-1]) == [0, 1, 1]
    store["episode_step"][20] = 2  # its game began at slot 18: slot 17 is no part of it
    assert list(ca2e.gather(store, slots, counts, weights, args)[-1]) == [1, 1, 1]


def test_rate_limit():
    args = ca2e.Args(samples_per_insert=8, learning_starts=1000, batch_size=32, local_buffer_size=50)
    slack = 8 * 50 + 32 * 32
    assert ca2e.allowed_step(0, 0, args) == 1000 + slack // 8 and ca2e.allowed_step(0, 80, args) == 1010 + slack // 8
    assert ca2e.allowed_step(5000, 0, args) == 6000 + slack // 8  # a resumed run
    assert ca2e.allowed_step(0, 10**12, args) == args.total_timesteps - 1
    assert ca2e.batches_due(999, 0, args) == 0 and ca2e.batches_due(1000, 0, args) == 0
    assert ca2e.batches_due(1003, 0, args) == 0 and ca2e.batches_due(1004, 0, args) == 1  # 32 samples for 4 inserts
    assert ca2e.batches_due(1100, 32 * 24, args) == 1 and ca2e.batches_due(1100, 10**6, args) == 0
    assert ca2e.batches_due(1100, 0, args) == 1 + 1100 // 128  # 25 are due, but the replay is small
    assert ca2e.batches_due(10**6, 0, args) == ca2e.BATCHES_PER_CALL
    free = ca2e.Args(samples_per_insert=0, learning_starts=1000)
    assert ca2e.batches_due(10**5, 10**9, free) == 32 and ca2e.batches_due(999, 0, free) == 0
    assert ca2e.allowed_step(0, 0, free) == free.total_timesteps - 1


def test_actors_and_learner_never_hold_each_other_for_ever():
    """Wherever the actors stop, the learner may go on, and the other way round; at the end every step is paid for."""
    args = ca2e.Args(samples_per_insert=8, learning_starts=1000, total_timesteps=20_000, buffer_size=20_000)
    inserted = sampled = 0
    while inserted < args.total_timesteps or ca2e.batches_due(inserted, sampled, args):
        n = ca2e.batches_due(inserted, sampled, args)
        acts = inserted <= ca2e.allowed_step(0, sampled, args)
        assert n or acts
        inserted, sampled = inserted + 50 * acts, sampled + 32 * n
    assert inserted == 20_000 and 0 <= 8 * 19_000 - sampled < 32


# ---------------------------------------------------------------------------------------------------------- weights
def make_board(newest, average):
    dtype = [("version", int), ("global_step", int), ("allowed_step", int), ("newest", np.float32, (newest,)),
             ("average", np.float32, (average,))]
    return np.zeros(1, dtype)[0]


def test_published_weights_arrive_and_a_half_written_vector_is_never_taken(monkeypatch):
    learner, average, actor = (torch.nn.Linear(3, 2) for _ in range(3))
    board = make_board(8, 8)
    ca2e.publish(board, learner, average)
    version = ca2e.receive(board, "newest", actor, -1)
    assert version == 2 and torch.equal(actor.weight, learner.weight) and torch.equal(actor.bias, learner.bias)
    assert ca2e.receive(board, "average", actor, -1) == 2 and torch.equal(actor.weight, average.weight)
    for size in (2, 4):  # a network of the learner's name but another size is not filled in part
        with pytest.raises(RuntimeError, match="invalid for input of size 8"):
            ca2e.receive(board, "newest", torch.nn.Linear(size, 2), -1)
    before = actor.weight.clone()
    assert ca2e.receive(board, "newest", actor, version) == version and torch.equal(actor.weight, before)
    board["version"] += 1  # the learner is in the middle of a publication
    board["newest"][:] = 7.0
    sleeps = []

    def finish(seconds):
        sleeps.append(torch.equal(actor.weight, before))
        board["version"] += 1

    monkeypatch.setattr(time, "sleep", finish)
    assert ca2e.receive(board, "newest", actor, version) == 4
    assert sleeps == [True] and (actor.weight == 7.0).all()


def test_the_order_in_which_shared_memory_is_written_and_read():
    """Weights are copied while the version is odd, and again if it moved; a record's count comes first, is read last."""
    net, odd, written, read = torch.nn.Linear(3, 2), [], [], []

    class Board(dict):
        def __getitem__(self, name):
            if name != "version":
                odd.append(dict.__getitem__(self, "version") % 2)
            return dict.__getitem__(self, name)

    board = Board(version=0, newest=np.zeros(8, np.float32), average=np.zeros(8, np.float32))
    ca2e.publish(board, net, net)
    assert odd == [1, 1]

    class Passing(dict):
        def __getitem__(self, name):
            value = dict.__getitem__(self, name)
            if name == "newest" and dict.__getitem__(self, "version") == 2:  # a whole publication passes meanwhile
                self.update(version=4, newest=np.full(8, 5, np.float32))
            return value

    assert ca2e.receive(Passing(version=2, newest=np.zeros(8, np.float32)), "newest", net, -1) == 4
    assert (net.weight == 5).all()

    class Record(dict):
        def __setitem__(self, name, value):
            written.append(name)

    args = ca2e.Args(num_nature_actors=1, num_prior_actors=0, buffer_size=64)
    ca2e.LocalBuffer(args, {0: Record()}, 0, 0).append(np.zeros(4), 0, 0.0, False, 0)
    assert written[0] == "count"
    names = ("count", "action", "return", "discount", "k", "episode_step", "frame")
    store = np.zeros(64, [(name, int) for name in names])

    class Watched:
        def __getitem__(self, key):
            read.append(key)
            return store[key]

    ca2e.gather(Watched(), np.array([9]), np.array([9]), np.ones(1, np.float32), args)
    assert read[-1] == "count"


@pytest.mark.parametrize("script, env_id", [(ca2e, "PongNoFrameskip-v4"), (ddpg, "InvertedPendulum-v5")])
def test_the_evaluator_plays_the_average_and_skips_a_late_round(script, env_id, monkeypatch):
    make, whole, one, play = ((script.make_atari, script.QNetwork, script.QNetwork, "play_atari") if script is ca2e
                              else (script.make_control, script.ActorCritic, script.Actor, "play_control"))
    newest, average = whole(make(env_id)), one(make(env_id))
    board = make_board(*(sum(parameter.numel() for parameter in network.parameters()) for network in (newest, average)))
    script.publish(board, newest, average)
    replay, args = make_replay()[0], script.Args(env_id=env_id, eval_frequency=100)
    played, board["global_step"] = [], 1030  # a resumed run

    def watched_play(env_id, network, episodes, seed):
        assert episodes == args.eval_episodes and seed == args.seed + board["global_step"]  # other games each time
        played.append(deepcopy(network))
        board["global_step"] += 250  # the round of 1200 comes while it plays
        return np.zeros(1)

    monkeypatch.setattr(script, play, watched_play)
    rounds = script.evaluator(args, 8, None, replay, None, board)
    for step in (1030, 1099):
        board["global_step"] = step
        assert next(rounds) == 0 and not played
    board["global_step"] = 1110
    next(rounds)
    next(rounds)
    assert len(played) == 1 and [event[:2] for event in replay.events] == [("evaluation", 1110)]
    assert all(torch.equal(one, other) for one, other in zip(played[0].parameters(), average.parameters()))
    board["global_step"] = 1400
    next(rounds)
    assert len(played) == 2


def test_a_loaded_agent_learns_on_as_the_saved_one(tmp_path):
    (saved, loaded), rng = (make_agent(batch_size=4) for _ in range(2)), np.random.default_rng(0)
    for _ in range(3):
        saved.update(random_batch(rng, 4), 10_000)
    ca2e.save_agent(saved.args, tmp_path / "agent.pt", saved, {"global_step": 9, "prior_steps": 0, "evaluations": [1.0]})
    loaded.updates = ca2e.load(tmp_path / "agent.pt", **loaded.parts)["updates"]  # as `main` does
    for _ in range(3):
        for agent, batch in zip((saved, loaded), [random_batch(rng, 4)] * 2):
            agent.update(batch, 10_000)
    for part in ("online", "target", "average"):
        for one, other in zip(getattr(saved, part).parameters(), getattr(loaded, part).parameters()):
            assert torch.equal(one, other), part
