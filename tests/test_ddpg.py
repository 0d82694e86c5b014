"""CA2E-DDPG: its losses against slow loops, its update by hand, its replay against the real environments."""

from copy import deepcopy
from pathlib import Path

import numpy as np
import pytest
import torch
from test_replay_atari import check_samples, two_actors

import ca2e_ddpg_mujoco as ca2e


def agent_and_batch(env_id="Hopper-v5", **settings):
    """An agent, and a batch of 6 random transitions as numpy arrays."""
    torch.manual_seed(0)
    rng, env = np.random.default_rng(0), ca2e.make_control(env_id)
    agent = ca2e.DDPG(ca2e.Args(env_id=env_id, **settings), env, torch.device("cpu"))
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
def test_the_target_agrees_with_a_slow_loop_and_has_no_gradient():
    agent, arrays = agent_and_batch()
    states, actions, returns, discounts, next_states, weights = tensors(arrays)
    got = ca2e.td_target(agent.target.actor, agent.target.critic, returns, discounts, next_states)
    assert not got.requires_grad
    for i in range(6):
        with torch.no_grad():
            action = agent.target.actor(next_states[i : i + 1])
            want = returns[i] + discounts[i] * agent.target.critic(next_states[i : i + 1], action)[0]
        assert float(got[i]) == pytest.approx(float(want), abs=1e-5)


def test_the_actor_climbs_the_critics_value():
    agent, arrays = agent_and_batch()
    states = torch.from_numpy(arrays[0])
    slow = sum(agent.online.critic(s[None], agent.online.actor(s[None]))[0] for s in states) / 6
    got = ca2e.actor_loss(agent.online.actor, agent.online.critic, states)
    assert float(got.detach()) == pytest.approx(-float(slow.detach()), abs=1e-5)


def test_first_priorities_agree_with_a_slow_loop():
    agent, (states, actions, returns, discounts, _, _) = agent_and_batch()
    k = np.array([3, 3, 1, 2])
    got = ca2e.first_priorities(agent.online, states, actions[:4], returns[:4], discounts[:4], k)
    for t in range(4):
        s, a, later = (torch.from_numpy(x)[None] for x in (states[t], actions[t], states[t + k[t]]))
        with torch.no_grad():
            target = returns[t] + discounts[t] * agent.online.critic(later, agent.online.actor(later))[0]
            assert got[t] == pytest.approx(abs(float(target - agent.online.critic(s, a)[0])), abs=1e-5)


def slow_critic_loss(agent, batch):
    """The critic's loss of section 5.2 with importance weights, one transition at a time; and the TD errors."""
    states, actions, returns, discounts, next_states, weights = batch
    total, td_errors = torch.zeros(()), []
    for i in range(len(returns)):
        with torch.no_grad():
            action = agent.target.actor(next_states[i : i + 1])
            target = returns[i] + discounts[i] * agent.target.critic(next_states[i : i + 1], action)[0]
        td_errors.append(target - agent.online.critic(states[i : i + 1], actions[i : i + 1])[0])
        total = total + weights[i] * 0.5 * td_errors[-1] ** 2 / len(returns)
    return total, torch.stack(td_errors).detach()


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


def test_a_second_critic_would_learn_too(monkeypatch):
    class Twins(ca2e.ActorCritic):
        def __init__(self, env):
            super().__init__(env)
            self.critic2 = ca2e.Critic(env)

    monkeypatch.setattr(ca2e, "ActorCritic", Twins)
    agent, _ = agent_and_batch()
    assert set(agent.omega) == {*agent.online.critic.parameters(), *agent.online.critic2.parameters()}
    decayed = [name for name, parameter in agent.online.named_parameters()
               if any(parameter is one for group in agent.adam.param_groups if group["weight_decay"] for one in group["params"])]
    assert decayed == [f"{critic}.network.{layer}.weight" for critic in ("critic", "critic2") for layer in (0, 3)]
    assert sum(len(group["params"]) for group in agent.adam.param_groups) == 30


def test_targets_follow_by_tau_and_the_actor_does_not_move_the_critic():
    agent, batch = agent_and_batch(tau=0.25)
    before, online_before = copy(agent.target), copy(agent.online)
    td_errors, metrics = agent.update(tensors(batch), 0)
    online = copy(agent.online)
    assert not any(parameter.grad_fn for parameter in agent.target.parameters())  # no graph grows behind them
    for name, tensor in copy(agent.target).items():
        assert torch.allclose(tensor, 0.75 * before[name] + 0.25 * online[name], atol=1e-6)
    assert all(not torch.equal(online[name], online_before[name]) for name in online if "weight" in name)
    again, _ = agent_and_batch(tau=0.25)  # the same weights: each network moves by its own loss alone
    loss, want_errors = slow_critic_loss(again, tensors(batch))
    policy_loss = ca2e.actor_loss(again.online.actor, again.online.critic, tensors(batch)[0])
    for parameters, one_loss in ((again.omega, loss), (again.theta, policy_loss)):
        for parameter, gradient in zip(parameters, torch.autograd.grad(one_loss, parameters)):
            parameter.grad = gradient
    again.adam.step()
    for name, tensor in copy(again.online).items():
        assert torch.allclose(tensor, online[name], atol=1e-6), name
    assert torch.allclose(td_errors, want_errors, atol=1e-5) and not td_errors.requires_grad
    assert float(metrics["losses/td_loss"]) == pytest.approx(float(loss.detach()), rel=1e-4)
    fresh, _ = agent_and_batch(tau=0.25)
    q_values = fresh.online.critic(*tensors(batch)[:2]).mean()
    assert float(metrics["losses/q_values"]) == pytest.approx(float(q_values.detach()), abs=1e-5)
    assert float(metrics["losses/actor_loss"]) == pytest.approx(float(policy_loss.detach()), abs=1e-5)


def test_the_average_follows_the_actor_alone_by_the_updates_that_were_made():
    agent, batch = agent_and_batch(actor_learning_rate=0.01)
    want = {name: tensor.double() for name, tensor in copy(agent.average).items()}
    assert all(torch.equal(tensor, copy(agent.online.actor)[name].double()) for name, tensor in want.items())
    for update, rate in ((0, 10 / 11), (989, 0.01), (10**6, 5e-4)):
        agent.updates = update
        agent.update(tensors(batch), 0)
        newest = copy(agent.online.actor)
        want = {name: (1 - rate) * tensor + rate * newest[name].double() for name, tensor in want.items()}
        assert all((tensor - want[name]).abs().max() < 1e-6 for name, tensor in copy(agent.average).items())


def test_a_step_of_each_network_lowers_its_own_loss():
    agent, batch = agent_and_batch(critic_l2=0.0)
    columns = tensors(batch)
    frozen = ca2e.ActorCritic(ca2e.make_control("Hopper-v5"))
    frozen.load_state_dict(agent.target.state_dict())
    agent.target.load_state_dict(frozen.state_dict())
    first = [float(slow_critic_loss(agent, columns)[0].detach())]
    actor_before = deepcopy(agent.online.actor)
    for _ in range(50):
        agent.update(columns, 0)
    agent.target.load_state_dict(frozen.state_dict())
    first.append(float(slow_critic_loss(agent, columns)[0].detach()))
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


def test_noise_of_each_actor():
    args = ca2e.Args(num_nature_actors=3, max_noise=0.5, min_noise=0.1)
    assert [ca2e.noise_of(i, args) for i in range(5)] == pytest.approx([0.5, 0.3, 0.1, 0.1, 0.1])  # retired: least
    assert ca2e.noise_of(0, ca2e.Args(num_nature_actors=0, min_noise=0.4)) == pytest.approx(0.4)
    assert ca2e.noise_of(0, ca2e.Args(num_nature_actors=1, max_noise=0.4)) == pytest.approx(0.4)


def test_a_resumed_agent_goes_on_where_it_was_and_takes_learning_rates_given_anew(tmp_path):
    (agent, batch), path = agent_and_batch(), tmp_path / "agent.pt"
    for _ in range(3):
        agent.update(tensors(batch), 0)
    state = {"global_step": 70, "prior_steps": 20, "evaluations": [1.0, 2.5]}
    ca2e.save_agent(ca2e.Args(), path, agent, state)
    agent.update(tensors(batch), 0)
    same, _ = agent_and_batch()
    saved = ca2e.load(path, "Hopper-v5", **same.parts)
    assert {name: saved[name] for name in state} == state and saved["average_return"] == 2.5
    same.updates = saved["updates"]
    same.update(tensors(batch), 0)
    for name in ("online", "target", "average"):
        for one, other in zip(getattr(agent, name).parameters(), getattr(same, name).parameters()):
            assert torch.equal(one, other)
    slower, _ = agent_and_batch(actor_learning_rate=1e-5, critic_l2=0.5)
    ca2e.load(path, "Hopper-v5", **slower.parts)
    assert [(group["lr"], group["weight_decay"]) for group in slower.adam.param_groups] == [
        (1e-5, 0), (1e-3, 0.5), (1e-3, 0)]


def test_the_rates_of_a_resumed_run_leave_out_what_was_done_before(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(ca2e.signal, "signal", lambda *_: None)
    monkeypatch.setattr(ca2e, "LOG_SECONDS", 0)
    agent, _ = agent_and_batch("InvertedPendulum-v5")
    agent.updates = 10**9
    ca2e.save_agent(agent.args, Path("agent.pt"), agent, {"global_step": 70, "prior_steps": 0, "evaluations": []})
    ca2e.main(ca2e.Args(env_id="InvertedPendulum-v5", resume=".", sync=True, cuda=False, num_prior_actors=0, num_nature_actors=1,
                        total_timesteps=600, learning_starts=500, eval_frequency=10_000))
    first = next(line for line in capsys.readouterr().out.splitlines() if "updates/s" in line)
    assert "| 0 updates/s |" in first, first  # none before --learning-starts


# ---------------------------------------------------------------------------------------------------------- replay
@pytest.mark.parametrize("env_id", ["Hopper-v5", "Reacher-v5"])
def test_sampled_transitions_are_what_the_actors_saw_and_truncation_bootstraps(env_id, monkeypatch):
    args = ca2e.Args(env_id=env_id, num_nature_actors=2, num_prior_actors=0, buffer_size=1500, total_timesteps=10**9,
                     learning_starts=0, samples_per_insert=0)
    torch.manual_seed(1)  # of the networks: with a few others the robot hardly falls
    play, replay, store, seen = two_actors(ca2e, args, ca2e.ActorCritic, monkeypatch)
    checked = []
    play()  # their environments
    for block in range(40):
        play()
        if block % 4 == 0:
            checked += check_samples(ca2e, args, replay, store, seen, 4)
    assert len(checked) > 3000
    terminated = sum(discount == 0 for _, discount, _ in checked)
    truncated = sum(k < 3 and discount > 0 for _, discount, k in checked)
    if env_id == "Reacher-v5":  # never terminates; each 50th step is a truncation, from which it bootstraps
        assert [count for count, step in seen[0].items() if step[5]][:2] == [54 + 50, 54 + 101]
        assert truncated > 50 and terminated == 0
    else:
        assert terminated > 50
    assert all((np.abs(step[1]) <= 1).all() for steps in seen.values() for step in steps.values())


# ------------------------------------------------------------------------------------------------------- bad input
@pytest.mark.parametrize("env_id, hint", [
    ("CartPole-v1", "it needs flat observations, bounded actions and max_episode_steps"), ("Hopper-v2", "Hopper-v5"),
    ("Hoper-v5", "KeyError"), ("os:Hopper-v5", "KeyError")])
def test_ids(env_id, hint, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as stop:
        ca2e.main(ca2e.Args(env_id=env_id))
    assert stop.value.code.startswith("error: ") and hint in stop.value.code and "\n" not in stop.value.code


@pytest.mark.parametrize("low, shape", [(-np.inf, (3,)), (-1.0, (8, 8, 3))])
def test_spaces(low, shape):
    import gymnasium as gym

    class Odd(gym.Env):
        observation_space = gym.spaces.Box(0, 1, shape, np.float32)
        action_space = gym.spaces.Box(low, 1.0, (2,), np.float32)

        def __init__(self, render_mode=None):
            pass

    gym.register("Odd-v0", Odd, max_episode_steps=10)
    with pytest.raises(SystemExit) as stop:
        ca2e.make_control("Odd-v0")
    del gym.registry["Odd-v0"]
    assert "it needs flat observations, bounded actions and max_episode_steps" in stop.value.code


def test_a_task_of_ones_own_needs_an_end():
    import gymnasium as gym

    class Own(gym.Env):
        observation_space = action_space = gym.spaces.Box(-1.0, 1.0, (2,))
        reset = lambda self, seed=None, options=None: (self.observation_space.sample(), {})
        step = lambda self, action: (self.observation_space.sample(), 1.0, False, False, {})

    gym.register("Own-v0", Own, max_episode_steps=7)
    gym.register("Endless-v0", Own)
    network = ca2e.Actor(ca2e.make_control("Own-v0"))
    assert list(ca2e.play_control("Own-v0", network, 3, seed=1)) == [7.0, 7.0, 7.0]
    with pytest.raises(SystemExit, match="max_episode_steps"):  # no evaluation of it would ever end
        ca2e.make_control("Endless-v0")
    del gym.registry["Own-v0"], gym.registry["Endless-v0"]


def test_a_prior_of_another_task(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "priors" / "Hopper-v5"
    folder.mkdir(parents=True)
    actor = ca2e.Actor(ca2e.make_control("InvertedPendulum-v5"))
    good = {"format": 1, "env_id": "Hopper-v5", "network": actor.state_dict(), "average_return": 1.0}
    for content, hint in ((good, "size mismatch"),
                          ({**good, "env_id": "InvertedPendulum-v5"}, "is for InvertedPendulum-v5")):
        torch.save(content, folder / "prior.pt")
        with pytest.raises(SystemExit) as stop:
            ca2e.main(ca2e.Args())
        assert str(stop.value.code).startswith("error: priors/Hopper-v5/prior.pt") and hint in stop.value.code


def test_a_prior_actor_retires_in_the_middle_of_its_life_and_at_a_restart_knows_it(tmp_path):
    """A prior that always pushes right by 3, its bound; the learner's actor does nothing; noise is off."""
    env = ca2e.make_control("InvertedPendulum-v5")
    args = ca2e.Args(env_id="InvertedPendulum-v5", num_nature_actors=1, num_prior_actors=1, buffer_size=1000,
                     max_noise=0.0, min_noise=0.0, prior_noise=0.0, local_buffer_size=10, retire_patience=2)
    prior, online = ca2e.Actor(env), ca2e.ActorCritic(env)
    for actor, bias in ((prior, 100.0), (online.actor, 0.0)):
        torch.nn.init.zeros_(actor.network[-1].weight)
        torch.nn.init.constant_(actor.network[-1].bias, bias)
    torch.save({"format": 1, "env_id": args.env_id, "network": prior.state_dict(), "average_return": 10.0},
               path := str(tmp_path / "prior.pt"))
    store = np.zeros(args.capacity, np.dtype(ca2e.store_fields(env), align=True))
    replay = ca2e.PrioritizedReplay(args, {"global_step": 0, "prior_steps": 0, "evaluations": []})
    size = sum(parameter.numel() for parameter in online.parameters())
    board = np.zeros(1, [("version", int), ("newest", np.float32, (size,)), ("average", np.float32, (size,))])[0]
    ca2e.publish(board, online, online)
    acting = ca2e.actor(args, 1, path, replay, store, board)
    next(acting)

    def actions_of_a_block():
        before = replay.next_counts[1]
        assert next(acting) == replay.progress["global_step"]
        counts = np.arange(before, replay.next_counts[1])
        return set(store["action"][args.ring_size + counts % args.ring_size].ravel().tolist())

    assert actions_of_a_block() == {3.0} and replay.progress["prior_steps"] == replay.progress["global_step"] > 0
    for r in (11.0, 9.0, 10.6):  # 10.5 must be reached twice in a row
        replay.report("evaluation", 0, np.array([r]))
        assert actions_of_a_block() == {3.0}
    replay.report("evaluation", 0, np.array([10.5]))
    steps = replay.progress["prior_steps"]
    assert actions_of_a_block() == {0.0} and replay.progress["prior_steps"] == steps
    acting = ca2e.actor(args, 1, path, replay, store, board)  # its successor
    next(acting)
    assert actions_of_a_block() == {0.0} and replay.progress["prior_steps"] == steps
