"""CA2E-DDPG: its losses against slow loops, its update by hand, its replay against the real environments."""

from copy import deepcopy
from pathlib import Path

import numpy as np
import pytest
import torch
from test_replay_atari import slow_return

import ca2e_ddpg_mujoco as ca2e


def agent_and_batch(env_id="Hopper-v5", **settings):
    """An agent, and a batch of 6 random transitions as numpy arrays."""
    torch.manual_seed(0)
    rng, env = np.random.default_rng(0), ca2e.make_control(env_id)
    agent = ca2e.DDPG(ca2e.Args(env_id=env_id, **settings), env, torch.device("cpu"), 0)
    with torch.no_grad():  # targets that differ from the online networks
        for parameter in agent.target.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    observations, actions = env.single_observation_space.shape[1], env.single_action_space
    states, next_states = rng.normal(size=(2, 6, 1, observations)).astype(np.float32)
    taken = rng.uniform(actions.low, actions.high, (6, len(actions.low))).astype(np.float32)
    returns, discounts = rng.normal(size=6).astype(np.float32), np.array([0.97, 0, 0.98, 0.97, 0.99, 0], np.float32)
    weights = np.array([1, 0.5, 0, 0.25, 0.8, 1], np.float32)
    return agent, (states, taken, returns, discounts, next_states, weights)


def tensors(arrays):
    return [torch.from_numpy(array) for array in arrays]


# --------------------------------------------------------------------------------------------------------- losses
def test_critic_loss_and_gradient_agree_with_a_slow_loop():
    agent, arrays = agent_and_batch()
    states, actions, returns, discounts, next_states, weights = batch = tensors(arrays)
    loss, td_errors, q_values = ca2e.critic_loss(agent.online, agent.target, batch)
    critic = list(agent.online.critic.parameters())
    got = torch.autograd.grad(loss, critic)
    total = torch.zeros(())
    for i in range(6):
        with torch.no_grad():
            next_action = agent.target.actor(next_states[i : i + 1])
            target = returns[i] + discounts[i] * agent.target.critic(next_states[i : i + 1], next_action)[0]
        q = agent.online.critic(states[i : i + 1], actions[i : i + 1])[0]
        assert float(td_errors[i]) == pytest.approx(float(target - q.detach()), abs=1e-5)
        assert float(q_values[i]) == pytest.approx(float(q.detach()), abs=1e-5)
        total = total + weights[i] * 0.5 * (target - q) ** 2 / 6
    assert float(loss.detach()) == pytest.approx(float(total.detach()), rel=1e-5)
    for mine, slow in zip(got, torch.autograd.grad(total, critic)):
        assert torch.allclose(mine, slow, atol=1e-5)


def test_the_actor_climbs_the_critics_value():
    agent, arrays = agent_and_batch()
    states = torch.from_numpy(arrays[0])
    slow = sum(agent.online.critic(s[None], agent.online.actor(s[None]))[0] for s in states) / 6
    assert float(ca2e.actor_loss(agent.online, states).detach()) == pytest.approx(-float(slow.detach()), abs=1e-5)


def test_first_priorities_agree_with_a_slow_loop():
    agent, (states, actions, returns, discounts, _, _) = agent_and_batch()
    after = np.array([3, 4, 5, 4, 5, 5])
    got = ca2e.first_priorities(agent.online, states, actions, returns, discounts, after)
    for t in range(6):
        s, a, later = (torch.from_numpy(x)[None] for x in (states[t], actions[t], states[after[t]]))
        with torch.no_grad():
            target = returns[t] + discounts[t] * agent.online.critic(later, agent.online.actor(later))[0]
            assert got[t] == pytest.approx(abs(float(target - agent.online.critic(s, a)[0])), abs=1e-5)


# ---------------------------------------------------------------------------------------------------------- update
def copy(module):
    return {name: parameter.detach().clone() for name, parameter in module.named_parameters()}


def test_the_l2_penalty_is_on_the_critics_hidden_matrices_alone():
    agent, (*batch, weights) = agent_and_batch()
    before = copy(agent.online.critic)
    agent.update(tensors((*batch, np.zeros_like(weights))), 0)  # no gradient of the loss
    changed = {name for name, tensor in copy(agent.online.critic).items() if not torch.equal(tensor, before[name])}
    assert changed == {"network.0.weight", "network.3.weight"}
    w, now = before["network.0.weight"], agent.online.critic.network[0].weight.detach()
    assert torch.allclose(now, w - 1e-3 * w.sign(), atol=1e-5)  # Adam's first step is lr * sign(gradient = l2 * w)


def test_targets_follow_by_tau_and_the_actor_does_not_move_the_critic():
    agent, batch = agent_and_batch(tau=0.25)
    before, online_before = copy(agent.target), copy(agent.online)
    agent.update(tensors(batch), 0)
    online = copy(agent.online)
    assert not any(parameter.requires_grad for parameter in agent.target.parameters())  # no graph grows behind them
    for name, tensor in copy(agent.target).items():
        assert torch.allclose(tensor, 0.75 * before[name] + 0.25 * online[name], atol=1e-6)
    assert all(not torch.equal(online[name], online_before[name]) for name in online if "weight" in name)
    again, _ = agent_and_batch(tau=0.25)  # the same weights: the critic moves by its own loss alone
    loss = ca2e.critic_loss(again.online, again.target, tensors(batch))[0]
    loss.backward()
    again.optimizer.step()
    assert all(torch.equal(tensor, online[f"critic.{name}"]) for name, tensor in copy(again.online.critic).items())


def test_a_step_of_each_network_lowers_its_own_loss():
    agent, batch = agent_and_batch(critic_l2=0.0)
    columns = tensors(batch)
    frozen = ca2e.ActorCritic(ca2e.make_control("Hopper-v5"))
    frozen.load_state_dict(agent.target.state_dict())
    first = [float(ca2e.critic_loss(agent.online, frozen, columns)[0].detach())]
    actor_before = deepcopy(agent.online.actor)
    for _ in range(50):
        agent.update(columns, 0)
    first.append(float(ca2e.critic_loss(agent.online, frozen, columns)[0].detach()))
    assert first[1] < 0.2 * first[0]
    with torch.no_grad():  # by the newest critic, the newest actor does better than the first
        q_first, q_now = (agent.online.critic(columns[0], actor(columns[0])).mean() for actor in (
            actor_before, agent.online.actor))
    assert q_now > q_first


@pytest.mark.parametrize("env_id, bound", [("InvertedPendulum-v5", 3.0), ("Hopper-v5", 1.0), ("Pendulum-v1", 2.0)])
def test_actions_stay_within_the_bounds_and_reach_them(env_id, bound):
    actor = ca2e.Actor(ca2e.make_control(env_id))
    states = torch.zeros(3, 1, actor.network[0].in_features)
    with torch.no_grad():
        actor.network[-1].weight.zero_()
        for bias, want in ((0.0, 0.0), (100.0, bound), (-100.0, -bound)):
            actor.network[-1].bias.fill_(bias)
            assert torch.allclose(actor(states), torch.full((3, len(actor.scale)), want))
    assert not any("scale" in name or "centre" in name for name in actor.state_dict())


def test_noise_ladder():
    args = ca2e.Args(num_nature_actors=3, max_noise=0.5, min_noise=0.1)
    assert [ca2e.noise_ladder(place, args) for place in range(5)] == pytest.approx([0.5, 0.3, 0.1, 0.5, 0.3])
    assert ca2e.noise_ladder(0, ca2e.Args(num_nature_actors=0, max_noise=0.4)) == pytest.approx(0.4)


def test_a_resumed_agent_goes_on_where_it_was_and_takes_learning_rates_given_anew():
    agent, batch = agent_and_batch()
    for _ in range(3):
        agent.update(tensors(batch), 0)
    saved = deepcopy({name: part.state_dict() for name, part in agent.parts.items()})
    agent.update(tensors(batch), 0)
    same, _ = agent_and_batch()
    ca2e.load_agent(Path("agent.pt"), same, deepcopy(saved))
    same.update(tensors(batch), 0)
    for one, other in zip(agent.online.parameters(), same.online.parameters()):
        assert torch.equal(one, other)
    for one, other in zip(agent.target.parameters(), same.target.parameters()):
        assert torch.equal(one, other)
    slower, _ = agent_and_batch(actor_learning_rate=1e-5, critic_l2=0.5)
    ca2e.load_agent(Path("agent.pt"), slower, deepcopy(saved))
    assert [(group["lr"], group["weight_decay"]) for group in slower.optimizer.param_groups] == [
        (1e-5, 0), (1e-3, 0.5), (1e-3, 0)]


def test_a_saved_agent_that_does_not_fit_is_refused_in_one_line():
    agent, batch = agent_and_batch()
    agent.update(tensors(batch), 0)
    good = {name: part.state_dict() for name, part in agent.parts.items()}
    moments, shape, infinite = deepcopy(good), deepcopy(good), deepcopy(good)
    moments["optimizer"]["state"][0]["exp_avg"] = torch.zeros(3, 3)
    shape["critic"]["network.0.weight"] = torch.zeros(3, 3)
    infinite["target"]["critic.network.0.weight"][0, 0] = float("inf")
    for bad in (moments, shape, infinite, {name: part for name, part in good.items() if name != "target"}):
        with pytest.raises(SystemExit) as stop:
            ca2e.load_agent(Path("agent.pt"), agent, bad)
        assert stop.value.code.startswith("error: agent.pt cannot be resumed") and "\n" not in stop.value.code


# ---------------------------------------------------------------------------------------------------------- replay
@pytest.mark.parametrize("env_id", ["Hopper-v5", "Reacher-v5"])
def test_sampled_transitions_are_what_the_actors_saw_and_truncation_bootstraps(env_id, monkeypatch):
    args = ca2e.Args(env_id=env_id, num_nature_actors=2, num_prior_actors=0, buffer_size=1500, total_timesteps=10**9,
                     learning_starts=0, samples_per_insert=0)
    env = ca2e.make_control(env_id)
    store = ca2e.SharedArray(args.num_actors * args.part, ca2e.slot(env))
    state = {"global_step": 0, "prior_steps": 0, "updates": 0, "roles": [0, 1], "evaluations": []}
    replay, online = ca2e.PrioritizedReplay(args, [], state), ca2e.ActorCritic(env)
    size = sum(parameter.numel() for parameter in online.parameters())
    weights = ca2e.SharedArray(1, [("version", np.int64), ("vector", np.float32, (size,))])
    ca2e.publish(weights, online)
    seen = {0: [], 1: []}  # everything that every actor saw and did, in order
    append = ca2e.LocalBuffer.append

    def record(buffer, *step):
        seen[buffer.actor].append(step)
        append(buffer, *step)

    monkeypatch.setattr(ca2e.LocalBuffer, "append", record)
    actors = [ca2e.actor(args, i, None, replay, store, weights) for i in range(2)]
    part, capacity, checked, truncated, terminated = args.part, args.part * 2, 0, 0, 0
    for block in range(40):
        for a in actors:
            next(a)
        if block % 4:
            continue
        ids, batch_weights, _, _ = replay.sample(np.zeros(0, np.int64), np.zeros(0))
        for row, row_weights in zip(ids[:4], batch_weights):
            states, actions, returns, discounts, next_states, got_weights = ca2e.gather(store.array, row, row_weights, args)
            assert (got_weights == row_weights).all() and states.dtype == np.float32
            for j, identity in enumerate(row):
                slot = identity % capacity
                a, count = slot // part, identity // capacity * part + slot % part
                columns = [np.array(column) for column in list(zip(*seen[a]))[2:5]]
                want_return, want_discount, k = slow_return(*columns, count, 3, args.gamma)
                assert not seen[a][count][4], "an episode's last observation was sampled"
                assert (states[j] == seen[a][count][0]).all() and (next_states[j] == seen[a][count + k][0]).all()
                assert (actions[j] == seen[a][count][1]).all() and (np.abs(actions[j]) <= 1).all()
                assert returns[j] == pytest.approx(want_return, rel=1e-4) and discounts[j] == pytest.approx(want_discount)
                checked += 1
                terminated += want_discount == 0
                truncated += k < 3 and want_discount > 0
    assert checked > 3000
    if env_id == "Reacher-v5":  # never terminates; each 50th step is a truncation, from which it bootstraps
        lasts = [i for i, step in enumerate(seen[0]) if step[4]]
        assert lasts[:3] == [50, 101, 152] and truncated > 50 and terminated == 0
    else:
        assert terminated > 50


# ------------------------------------------------------------------------------------------------------- bad input
@pytest.mark.parametrize("env_id, hint", [
    ("CartPole-v1", "the actions of CartPole-v1 are Discrete(2); DDPG needs bounded numbers"),
    ("Hopper-v2", "use Hopper-v5"), ("Reacher-v3", "use Reacher-v5"), ("Hoper-v5", "Did you mean: `Hopper`"),
])
def test_ids(env_id, hint, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as stop:
        ca2e.main(ca2e.Args(env_id=env_id))
    assert stop.value.code.startswith("error: ") and hint in stop.value.code and "\n" not in stop.value.code


@pytest.mark.parametrize("low, shape, hint", [
    (-np.inf, (3,), "needs bounded numbers"), (-1.0, (8, 8, 3), "the shape (8, 8, 3); this script needs a flat one")])
def test_spaces(low, shape, hint):
    import gymnasium as gym

    class Odd(gym.Env):
        observation_space = gym.spaces.Box(0, 1, shape, np.float32)
        action_space = gym.spaces.Box(low, 1.0, (2,), np.float32)

        def __init__(self, render_mode=None):
            pass

    gym.register("Odd-v0", Odd)
    with pytest.raises(SystemExit) as stop:
        ca2e.make_control("Odd-v0")
    del gym.registry["Odd-v0"]
    assert hint in stop.value.code


def test_a_prior_of_another_task(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "priors" / "Hopper-v5"
    folder.mkdir(parents=True)
    actor = ca2e.Actor(ca2e.make_control("InvertedPendulum-v5"))
    good = {"format": 1, "env_id": "Hopper-v5", "network": actor.state_dict(), "average_return": 1.0}
    for content, hint in ((good, "another shape than Hopper-v5 needs"),
                          ({**good, "env_id": "InvertedPendulum-v5"}, "is for InvertedPendulum-v5, not for Hopper-v5")):
        torch.save(content, folder / "prior.pt")
        with pytest.raises(SystemExit) as stop:
            ca2e.main(ca2e.Args())
        assert str(stop.value.code).startswith("error: priors/Hopper-v5/prior.pt") and hint in stop.value.code
