"""Bad input gets one clear line, an exit status that is not zero, and starts nothing."""

import multiprocessing as mp
import os
import pickle
import runpy
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import ca2e_ddpg_mujoco as ddpg
import ca2e_dqn_atari as ca2e

PRIOR = Path(__file__).parents[1] / "priors" / "PongNoFrameskip-v4" / "n-step-double-dqn.pt"


def refused(folder, monkeypatch, **settings):
    """The line with which main refuses the settings, run in folder."""
    monkeypatch.chdir(folder)
    monkeypatch.setattr(ca2e.signal, "signal", lambda *_: None)  # or Ctrl-C would stop no test after this one
    with pytest.raises(SystemExit) as stop:
        ca2e.main(ca2e.Args(**{"buffer_size": 10_000, "prior_dir": str(folder / "priors"), **settings}))
    message = stop.value.code
    assert isinstance(message, str) and message.startswith("error: ") and "\n" not in message  # so the status is 1
    assert not mp.active_children()
    return message


@pytest.mark.parametrize("env_id", ["NoSuchGame-v4", "CartPole-v1", "Hopper-v5", "Pong-v4", "PongDeterministic-v4",
                                    "AdventureNoFrameskip-v4",
                                    "evil:Pong-v4"])
def test_ids(env_id, tmp_path, monkeypatch):
    message = refused(tmp_path, monkeypatch, env_id=env_id)
    assert message == f"error: cannot play {env_id}; ids look like PongNoFrameskip-v4 or ALE/Pong-v5"


def test_ids_that_play():
    for env_id, fire, actions in (("PongNoFrameskip-v4", 1, 6), ("ALE/Freeway-v5", 0, 3)):  # no FIRE: a no-op
        env = ca2e.make_atari(env_id)
        assert env.fire == fire and env.single_action_space.n == actions


NAN = float("nan")


@pytest.mark.parametrize("settings, hint", [
    ({"num_nature_actors": 0, "num_prior_actors": 0}, "no actors"),
    ({"batch_size": 20_000}, "--buffer-size and --total-timesteps must be 20,000 or more"),
    ({"buffer_size": 500}, "--buffer-size and --total-timesteps must be 1,760 or more"),
    ({"buffer_size": 2 * 10**9, "total_timesteps": 2 * 10**9}, "lower --buffer-size"),
    ({"total_timesteps": 10_000}, "--learning-starts must be below --total-timesteps"),
    *(({name: value}, f"--{name.replace('_', '-')} must be from") for name, value in (
        ("seed", -1), ("learning_rate", -1.0), ("learning_rate", NAN), ("learning_rate", float("inf")), ("gamma", 1.5),
        ("gamma", -1.0), ("gamma", NAN), ("start_e", 2.0), ("end_e", -0.1), ("prior_epsilon", 1.1), ("per_alpha", -1.0),
        ("per_beta", NAN), ("samples_per_insert", NAN), ("samples_per_insert", -8.0), ("learning_starts", -1),
        ("num_nature_actors", -1), ("total_timesteps", -5), ("n_step", 0), ("eval_frequency", 0), ("batch_size", 0),
        ("exploration_steps", 0), ("target_network_frequency", 0), ("publish_frequency", 0), ("retire_patience", 0),
        ("retire_ratio", NAN), ("local_buffer_size", 0), ("eval_episodes", 0), ("gamma", "0.9"))),
])
def test_settings_that_cannot_work_are_one_line_before_anything_is_made(settings, hint, tmp_path, monkeypatch):
    assert hint in refused(tmp_path, monkeypatch, **settings)
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize("name", ["tau", "max_noise", "critic_l2", "actor_learning_rate", "critic_learning_rate"])
def test_settings_of_ddpg(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for value in (-1.0, NAN, *([2.0] if name == "tau" else [])):
        with pytest.raises(SystemExit, match=f"error: --{name.replace('_', '-')} must be from 0 to"):
            ddpg.main(ddpg.Args(**{name: value}))


@pytest.mark.parametrize("flag", ["--resume", "--evaluate"])
def test_a_file_that_is_not_there(flag, tmp_path, monkeypatch):
    monkeypatch.setattr("sys.argv", ["script", flag, str(tmp_path / "none")])
    with pytest.raises(SystemExit, match="^error: .*none.* does not fit this script: FileNotFoundError"):
        ca2e.parse()


def with_prior(folder, content=None):
    """Puts a prior for Pong into folder: the shipped one, or one of content."""
    path = folder / "priors" / "PongNoFrameskip-v4" / "prior.pt"
    path.parent.mkdir(parents=True)
    path.write_bytes(PRIOR.read_bytes())
    if content is not None:
        torch.save(content, path)
    return path


def test_no_priors_names_what_trains_one(tmp_path, monkeypatch):
    message = refused(tmp_path, monkeypatch, prior_dir="priors")  # relative, but named whole
    folder = (tmp_path / "priors" / ca2e.Args().env_id).resolve()
    assert message == f"error: no prior in {folder}: see pretrain_priors.py, or --num-prior-actors 0"


def test_a_prior_that_was_saved_before_its_first_evaluation_retires(tmp_path):
    agent, path = ddpg.DDPG(ddpg.Args(), ddpg.make_control("Hopper-v5"), torch.device("cpu")), tmp_path / "agent.pt"
    ddpg.save_agent(ddpg.Args(), path, agent, {"evaluations": [], "global_step": 9, "prior_steps": 0})
    average_return = ddpg.load(path, "Hopper-v5")["average_return"]
    assert ddpg.surpassed([-500.0] * 3, average_return, 1.05, 3)


def test_broken_priors(tmp_path, monkeypatch):
    good = torch.load(PRIOR, weights_only=True)
    path = with_prior(tmp_path)
    smaller = {name: tensor[:3] for name, tensor in good["network"].items()}
    for content, hint in (({**good, "env_id": "BreakoutNoFrameskip-v4"}, "format 1 and is for BreakoutNoFrameskip-v4"),
                          ({**good, "format": 99}, "it has format 99"), ({**good, "network": smaller}, "size mismatch"),
                          ({**good, "average_return": "high"}, "could not convert string to float"),
                          ({**good, "average_return": NAN}, "or its average return, are not finite"),
                          ([1, 2, 3], "TypeError"), ({}, "KeyError('format')")):
        torch.save(content, path)
        message = refused(tmp_path, monkeypatch)
        assert str(path) in message and hint in message
    for content in (PRIOR.read_bytes()[:100_000], b"", b"not a checkpoint"):
        path.write_bytes(content)
        assert "does not fit Pong" in refused(tmp_path, monkeypatch)


def test_code_in_a_pickle_never_runs(tmp_path, monkeypatch):
    class Malicious:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "it ran"),)

    path = with_prior(tmp_path)
    for write in (lambda: torch.save({"format": 1, "network": Malicious()}, path),
                  lambda: path.write_bytes(pickle.dumps(Malicious()))):
        write()
        assert "does not fit Pong" in refused(tmp_path, monkeypatch)
    assert not (tmp_path / "it ran").exists()


def test_a_run_folder_that_cannot_be_written(tmp_path, monkeypatch):
    (tmp_path / "runs").write_text("a file where the folder should be")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(OSError):  # one line where the script is run, see below
        ca2e.main(ca2e.Args(buffer_size=10_000, num_prior_actors=0))


def test_a_loss_that_is_not_finite_stops_the_run_and_names_the_update(tmp_path, monkeypatch):
    message = refused(tmp_path, monkeypatch, num_prior_actors=0, num_nature_actors=1, sync=True, learning_starts=50,
                      total_timesteps=2000, learning_rate=1e9, buffer_size=2000)
    assert message.startswith("error: the loss is not finite, by update ") and "; lower" in message


def test_a_loss_that_overflows_though_its_td_error_is_finite(tmp_path, monkeypatch):
    agent_update = ca2e.DQN.update

    def update(agent, batch, global_step):
        td_errors, metrics = agent_update(agent, batch, global_step)
        update.calls += 1
        return td_errors * (1e25 if update.calls == 7 else 1), metrics

    update.calls = 0
    monkeypatch.setattr(ca2e.DQN, "update", update)
    message = refused(tmp_path, monkeypatch, num_prior_actors=0, num_nature_actors=1, sync=True, learning_starts=50,
                      total_timesteps=2000, buffer_size=2000)
    assert message.startswith("error: the loss is not finite, by update ") and update.calls >= 7, message


def test_td_errors_of_a_forgotten_squeeze_stop_where_they_are_made(tmp_path, monkeypatch):
    def loss(agent, states, actions, returns, discounts, next_states, weights):
        q_values = agent.online(states).gather(1, actions[:, None])  # (B, 1): with (B,) it makes (B, B)
        td_errors = returns - q_values
        return td_errors.square().mean(), td_errors.detach(), q_values.detach()

    monkeypatch.setattr(ca2e.DQN, "loss", loss)
    with pytest.raises(RuntimeError, match="shape '.32.' is invalid") as stop:
        refused(tmp_path, monkeypatch, num_prior_actors=0, num_nature_actors=1, sync=True, learning_starts=50,
                total_timesteps=2000, buffer_size=2000)
    assert stop.traceback[-1].name == "learner"


def test_weights_that_are_not_finite_are_neither_saved_nor_loaded(tmp_path):
    agent = ddpg.DDPG(ddpg.Args(), ddpg.make_control("InvertedPendulum-v5"), torch.device("cpu"))
    args, path = ddpg.Args(env_id="InvertedPendulum-v5"), tmp_path / "agent.pt"
    state = {"evaluations": [], "global_step": 9, "prior_steps": 0}
    ddpg.save_agent(args, path, agent, state)
    before = path.read_bytes()
    with torch.no_grad():
        agent.online.critic.network[0].weight[0, 0] = float("nan")
    agent.updates = 7
    with pytest.raises(SystemExit, match="not finite, by update 7; they are not saved"):
        ddpg.save_agent(args, path, agent, state)
    assert path.read_bytes() == before
    prior = torch.load(PRIOR, weights_only=True)
    prior["network"]["network.0.weight"][0] = float("inf")
    network = ca2e.QNetwork(ca2e.make_atari("PongNoFrameskip-v4"))
    with pytest.raises(SystemExit, match="its weights, or its average return, are not finite"):
        ca2e.load(with_prior(tmp_path, prior), "PongNoFrameskip-v4", network=network)


def resume(monkeypatch, folder, module=ddpg, *arguments):
    """What --resume of the folder says."""
    monkeypatch.setattr("sys.argv", ["script", "--resume", str(folder), *arguments])
    with pytest.raises(SystemExit) as exit_:
        module.main(module.parse())
    assert "\n" not in str(exit_.value) and str(exit_.value).startswith("error: ")
    return str(exit_.value)


def test_a_run_that_cannot_be_resumed(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    agent = ddpg.DDPG(ddpg.Args(), ddpg.make_control("InvertedPendulum-v5"), torch.device("cpu"))
    args, path = ddpg.Args(env_id="InvertedPendulum-v5", num_prior_actors=0, total_timesteps=6000), tmp_path / "agent.pt"
    assert "FileNotFoundError" in resume(monkeypatch, tmp_path)
    path.write_bytes(b"no checkpoint")
    assert "does not fit this script" in resume(monkeypatch, tmp_path)
    ddpg.save_agent(args, path, agent, {"global_step": 9, "prior_steps": 0, "evaluations": [1.5]})
    assert "cannot play InvertedPendulum-v5" in resume(monkeypatch, tmp_path, ca2e)  # the other script's
    good = torch.load(path, weights_only=True)

    def changed(**values):
        torch.save({**good, **values}, path)
        return resume(monkeypatch, tmp_path)

    assert "--tau must be from 0 to 1, not 0.1" in changed(args={**good["args"], "tau": "0.1"})
    assert "it has format 3" in changed(format=3)
    for broken in ({"optimizer": {}}, {"online": {}}, {"target": None}):
        assert f"{path} does not fit " in changed(**broken), broken
    parameter = agent.theta[0]
    parameter.grad = torch.zeros_like(parameter)
    agent.adam.step()
    moments = agent.adam.state_dict()
    moments["state"][0]["exp_avg"] = torch.zeros(3)  # PyTorch loads it, and would write beyond its end
    assert "its optimizer has another shape" in changed(optimizer=moments)
    moments["state"][0]["exp_avg"] = torch.zeros(*reversed(parameter.shape)).t()  # nor does it see another order
    assert "its optimizer has another shape" in changed(optimizer=moments)
    (tmp_path / "evil.py").write_text(f"open({str(tmp_path / 'it ran')!r}, 'w')")
    monkeypatch.syspath_prepend(tmp_path)
    assert "cannot act in evil:Hopper-v5" in changed(
        args={**good["args"], "env_id": "evil:Hopper-v5"}, env_id="evil:Hopper-v5")
    assert not (tmp_path / "it ran").exists()


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs the device that is always full")
def test_a_full_disk_keeps_what_was_saved_before(tmp_path):
    agent, path = ddpg.DDPG(ddpg.Args(), ddpg.make_control("Hopper-v5"), torch.device("cpu")), tmp_path / "agent.pt"
    state = {"evaluations": [], "global_step": 1, "prior_steps": 0}
    ddpg.save_agent(ddpg.Args(), path, agent, state)
    path.with_suffix(".tmp").symlink_to("/dev/full")  # every write fails, as on a full disk
    with pytest.raises(OSError, match="No space left on device"):  # one line where the script is run, see below
        ddpg.save_agent(ddpg.Args(), path, agent, {**state, "global_step": 2})
    assert torch.load(path, weights_only=True)["global_step"] == 1


@pytest.mark.parametrize("end", ["OSError(28, 'No space left on device')", "KeyboardInterrupt()"])
@pytest.mark.parametrize("script", ["ca2e_dqn_atari.py", "ca2e_ddpg_mujoco.py", "pretrain_priors.py"])
def test_what_the_system_refuses_and_ctrl_c_are_one_line_wherever_they_happen(script, end, monkeypatch):
    def full(_):
        raise eval(end)

    monkeypatch.setattr(torch, "manual_seed", full)
    monkeypatch.setattr(torch, "set_num_threads", lambda _: None)
    monkeypatch.setattr(sys, "argv", [script])
    with pytest.raises(BaseException) as stop:
        runpy.run_path(str(PRIOR.parents[2] / script), run_name="__main__")
    assert stop.type is SystemExit and stop.value.code == f"error: ended by {end}; what was saved before is intact"
