"""benchmark/distill.py: its pull by hand, both losses and gradients beside the scripts' own, a run on a pretended GPU."""

import signal
import subprocess
import sys
from copy import deepcopy
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

import pretend_cuda

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "benchmark"))
import distill  # noqa: E402
from distill import ddpg, dqn  # noqa: E402


@pytest.mark.parametrize("evaluations, average_return, want", [
    ([], 100, 1.0), ([10], 100, 1.0), ([10, 40, 50, 75], 100, 0.5), ([10, 100, 100, 100], 100, 0.0),
    ([10, 500, 500, 500], 100, 0.0), ([-20, -12, -12, -12], -4, 0.5), ([-20, -40, -40, -40], -4, 1.0),
    ([50], 40, 0.0)])  # a prior that the learner excels from the start
def test_the_pull_falls_from_1_to_0(evaluations, average_return, want):
    assert distill.pull_of(evaluations, average_return) == pytest.approx(want)


def test_cross_entropy_agrees_with_a_slow_loop():
    rng = np.random.default_rng(0)
    q_values, teacher_q = rng.normal(0, 0.1, (5, 4)), rng.normal(0, 0.1, (5, 4))
    got = distill.cross_entropy(torch.tensor(q_values), torch.tensor(teacher_q))
    for row, theirs, value in zip(q_values, teacher_q, got):
        policy, teachers = (np.exp(10 * q) / np.exp(10 * q).sum() for q in (row, theirs))
        assert value.item() == pytest.approx(-sum(p * np.log(own) for p, own in zip(teachers, policy)))


def agents(script, own, env_id, best, *cores):
    """The script's agent, one with a teacher, of the same weights, and the best prior, loaded by itself."""
    env = (script.make_atari if script is dqn else script.make_control)(env_id)
    made = []
    for kind in (script.DQN if script is dqn else script.DDPG, own):
        torch.manual_seed(0)
        args = script.Args(env_id=env_id, prior_dir=str(ROOT / "priors"), batch_size=8)
        made.append(kind(args, env, torch.device("cpu"), *cores))
    prior = type(made[1].average)(env)
    assert made[1].teacher_return == script.load(ROOT / "priors" / env_id / best, network=prior)["average_return"]
    return *made, prior


@pytest.mark.parametrize("cores", [1, 2])
def test_dqn_gets_the_cross_entropy_to_its_best_prior(cores):
    plain, pulled, prior = agents(dqn, distill.DistilledDQN, "PongNoFrameskip-v4", "n-step-double-dqn.pt", cores)
    states, next_states = torch.randint(0, 256, (2, 8, 4, 84, 84), dtype=torch.uint8)
    weights = torch.tensor([0.0, 0.5, 1, 1, 0.2, 1, 1, 1])  # the first was overwritten
    batch = states, torch.arange(8) % 6, torch.ones(8), torch.full((8,), 0.9), next_states, weights
    pulled.pull.fill_(0.5)
    wanted, all_q = torch.softmax(10 * prior(states).detach(), 1), plain.online(states)
    term = -(wanted * torch.log_softmax(10 * all_q, 1))[1:].sum() / 8
    plain_loss, td_errors, q_values = plain.loss(*batch)
    want = torch.autograd.grad(plain_loss + 0.5 * term, plain.theta)
    loss, *same = dqn.backward(pulled.loss, batch, pulled.theta, pulled.pool)
    assert loss.item() == pytest.approx((plain_loss + 0.5 * term).item(), rel=1e-4) and term > 0.1
    assert all(torch.allclose(one, other, atol=1e-5) for one, other in zip((td_errors, q_values), same))
    assert all(torch.allclose(one, tensor.grad, rtol=1e-3, atol=1e-5) for one, tensor in zip(want, pulled.theta))


@pytest.mark.parametrize("pull", [0.0, 0.5])
def test_ddpgs_actor_is_pulled_to_its_best_prior_and_the_critic_is_left_alone(pull):
    plain, pulled, prior = agents(ddpg, distill.DistilledDDPG, "InvertedPendulum-v5", "n-step-ddpg.pt")
    states, next_states = torch.randn(2, 8, 1, 4)
    batch = states, torch.rand(8, 1), torch.ones(8), torch.full((8,), 0.9), next_states, torch.rand(8)
    pulled.pull.fill_(pull)
    q_values, actions = plain.online.critic(states, batch[1]).detach(), plain.online.actor(states)
    loss = -plain.online.critic(states, actions).mean() / q_values.abs().mean()
    loss = loss + pull * ((actions - prior(states).detach()) / 3).square().mean()  # actions within 3
    want = torch.autograd.grad(loss, plain.theta)
    plain.learn(batch), pulled.learn(batch)
    assert all(torch.allclose(one, tensor.grad, rtol=1e-4, atol=1e-7) for one, tensor in zip(want, pulled.theta))
    assert all(torch.equal(one, other) for one, other in zip(plain.omega, pulled.omega))
    assert all(torch.equal(one, other) for one, other in zip(plain.target.critic.parameters(), pulled.target.critic.parameters()))


def run(monkeypatch, line):
    """As from a shell; what it patches is put back."""
    handlers = {number: signal.getsignal(number) for number in ddpg.STOP_SIGNALS}
    with monkeypatch.context() as patch:
        for script, name in ((dqn, "DQN"), (ddpg, "DDPG"), (ddpg, "learner"), (ddpg, "ALGO")):
            patch.setattr(script, name, getattr(script, name))
        patch.setattr(sys, "argv", ["distill.py", *line.split()])
        distill.main()
    for number, handler in handlers.items():
        signal.signal(number, handler)


@pytest.mark.parametrize("line, hint", [
    ("", "name the script first"), ("ca2e_ddpg_mujoco --env-id Pendulum-v1 --num-prior-actors 0", "no prior to imitate")])
def test_what_is_missing_is_one_line(line, hint, monkeypatch):
    with pytest.raises(SystemExit, match=f"^error: .*{hint}"):
        run(monkeypatch, line)


def test_a_folder_that_cannot_be_made_is_one_line(tmp_path):
    (tmp_path / "runs").write_text("a file")
    line = f"ca2e_ddpg_mujoco --env-id InvertedPendulum-v5 --prior-dir {ROOT}/priors"
    done = subprocess.run([sys.executable, str(ROOT / "benchmark" / "distill.py"), *line.split()], cwd=tmp_path,
                          capture_output=True, text=True, timeout=300)
    assert done.returncode == 1 and done.stderr.startswith("error: ended by") and done.stderr.count("\n") == 1, done.stderr


def test_a_run_is_pulled_less_and_less_on_a_pretended_gpu_too_and_a_resumed_one_goes_on_so(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    pull_of, pulls, agents = distill.pull_of, [], []
    monkeypatch.setattr(distill, "pull_of", lambda *values: pulls.append(pull_of(*values)) or pulls[-1])
    line = ("ca2e_ddpg_mujoco --sync --env-id InvertedPendulum-v5 --num-prior-actors 0 --num-nature-actors 1 --eval-episodes 1 "
            f"--eval-frequency 100 --total-timesteps 450 --learning-starts 250 --actor-learning-rate 1e-2 --prior-dir {ROOT}/priors")
    run(monkeypatch, line)
    assert pulls[0] == 1 and 0 < pulls[-1] < 1 and len({*pulls}) > 2
    with pretend_cuda.PretendCuda(monkeypatch):
        run(monkeypatch, line)
    for path in sorted(tmp_path.glob("runs/*ca2e-ddpg-distilled*/agent.pt")):
        agents.append(torch.load(path, weights_only=True))
    one, two = agents
    assert all(torch.equal(one["network"][key], two["network"][key]) for key in one["network"])
    pulls.clear()
    run(monkeypatch, f"ca2e_ddpg_mujoco --resume {path.parent} --total-timesteps 800")
    assert pulls[0] == pytest.approx(pull_of(two["evaluations"], 512.3), abs=1e-3)
    assert torch.load(path, weights_only=True)["updates"] > two["updates"]


def test_distilled_ddpg_returns_the_scripts_td_errors_and_moves_both_targets():
    plain, pulled, _ = agents(ddpg, distill.DistilledDDPG, "InvertedPendulum-v5", "n-step-ddpg.pt")
    states, next_states = torch.randn(2, 8, 1, 4)
    batch = states, torch.rand(8, 1), torch.ones(8), torch.full((8,), 0.9), next_states, torch.rand(8)
    pulled.args.tau, before = 0.5, deepcopy(pulled.target.actor)
    one, two = plain.learn(batch), pulled.learn(batch)
    assert all(torch.equal(one[i], two[i]) for i in (0, 1, 3))  # TD errors, the critic's loss, the mean q-value
    for old, now, new in zip(before.parameters(), pulled.target.actor.parameters(), pulled.online.actor.parameters()):
        assert torch.allclose(now, (old + new) / 2, rtol=0, atol=1e-7) and not torch.equal(old, new)


def test_the_agents_own_pull_follows_the_evaluations_and_is_logged():
    agent = SimpleNamespace(pull=torch.ones(()), teacher_return=100.0)

    def learner(args, agent):
        for evaluations in ([], [10.0], [10.0, 55.0], [10.0, 100.0, 100.0, 100.0]):
            yield {"evaluations": evaluations}, ["event"], {"losses/td_loss": 2.0}, 3

    seen = [(float(agent.pull), float(metrics["losses/pull"]), metrics["losses/td_loss"], events, made)
            for _, events, metrics, made in distill.pulled(learner)(None, agent)]
    assert seen == [(pull, pull, 2.0, ["event"], 3) for pull in (1.0, 1.0, 0.75, 0.0)]
