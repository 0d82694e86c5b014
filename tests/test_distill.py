"""benchmark/distill.py: the pull by hand, both losses beside the scripts' own, on the priors that ship."""

import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "benchmark"))
import distill  # noqa: E402
from distill import ddpg, dqn  # noqa: E402


@pytest.mark.parametrize("evaluations, average_return, want", [
    ([], 100, 1.0), ([10], 100, 1.0), ([10, 40, 50, 75], 100, 0.5), ([10, 100, 100, 100], 100, 0.0),
    ([10, 500, 500, 500], 100, 0.0), ([-20, -12, -12, -12], -4, 0.5), ([-20, -40, -40, -40], -4, 1.0),
    ([50], 40, 0.0)])  # a prior that plays worse than the untrained learner
def test_the_pull_falls_from_1_to_0(evaluations, average_return, want):
    assert distill.pull_of(evaluations, average_return) == pytest.approx(want)


def test_cross_entropy_agrees_with_a_slow_loop():
    rng = np.random.default_rng(0)
    q_values, teacher_q = rng.normal(0, 0.1, (5, 4)), rng.normal(0, 0.1, (5, 4))
    got = distill.cross_entropy(torch.tensor(q_values), torch.tensor(teacher_q))
    for row, theirs, value in zip(q_values, teacher_q, got):
        policy, teachers = (np.exp(10 * q) / np.exp(10 * q).sum() for q in (row, theirs))
        assert value.item() == pytest.approx(-sum(p * np.log(own) for p, own in zip(teachers, policy)))


def agents(script, own, env_id):
    """The script's agent, and one with a teacher, of the same weights."""
    env, args = (script.make_atari if script is dqn else script.make_control)(env_id), None
    made = []
    for kind in (script.DQN if script is dqn else script.DDPG, own):
        torch.manual_seed(0)
        args = script.Args(env_id=env_id, prior_dir=str(ROOT / "priors"), batch_size=8)
        made.append(kind(args, env, torch.device("cpu")))
    return *made, env


def test_dqn_gets_the_cross_entropy_added_and_its_best_prior():
    plain, pulled, _ = agents(dqn, distill.DistilledDQN, "PongNoFrameskip-v4")
    assert pulled.teacher_return == pytest.approx(20.35)
    states, next_states = torch.randint(0, 256, (2, 8, 4, 84, 84), dtype=torch.uint8)
    batch = states, torch.arange(8) % 6, torch.ones(8), torch.full((8,), 0.9), next_states, torch.rand(8)
    (want, *errors), (with_teacher, *same) = plain.loss(*batch), pulled.loss(*batch)
    assert all(torch.allclose(one, other) for one, other in zip(errors, same))
    term = distill.cross_entropy(pulled.online(states), pulled.teacher(states)).mean()
    assert term > 0.1 and with_teacher.item() == pytest.approx((want + term).item(), rel=1e-4)
    pulled.pull.fill_(0)
    assert pulled.loss(*batch)[0].item() == pytest.approx(want.item(), rel=1e-5)


def test_ddpg_is_pulled_to_its_best_prior_and_the_critic_is_left_alone():
    plain, pulled, env = agents(ddpg, distill.DistilledDDPG, "Hopper-v5")
    assert pulled.teacher_return == pytest.approx(2757, abs=1)
    size = env.single_observation_space.shape
    batch = (torch.randn(8, *size), torch.rand(8, 3), torch.ones(8), torch.full((8,), 0.9), torch.randn(8, *size),
             torch.ones(8))
    gaps = [distill.action_gap(pulled.online.actor, pulled.teacher, batch[0]).item()]
    plain.learn(batch), pulled.learn(batch)
    assert all(torch.equal(one, other) for one, other in zip(plain.omega, pulled.omega))
    assert not any(torch.equal(one, other) for one, other in zip(plain.theta, pulled.theta))
    for _ in range(300):
        pulled.learn(batch)
    gaps.append(distill.action_gap(pulled.online.actor, pulled.teacher, batch[0]).item())
    assert gaps[1] < 0.5 * gaps[0]
    one, other = (agents(ddpg, distill.DistilledDDPG, "Hopper-v5")[1] for _ in range(2))
    other.teacher.network[-1].bias.data += 1
    for agent in (one, other):
        agent.pull.fill_(0)  # then whatever the teacher says is not heard
        agent.learn(batch)
    assert all(torch.equal(ours, theirs) for ours, theirs in zip(one.theta, other.theta))


def test_the_learner_tells_the_agent_its_pull():
    agent = SimpleNamespace(pull=torch.ones(()), teacher_return=100)
    seen = []
    for step in distill.pulled(lambda args, agent: iter([({"evaluations": [0]}, 1), ({"evaluations": [0, 75]}, 2)]))(None, agent):
        seen.append((agent.pull.item(), step[1]))
    assert seen == [(1.0, 1), (pytest.approx(0.625), 2)]
