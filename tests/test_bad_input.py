"""Bad input gets one clear line, an exit status that is not zero, and starts nothing."""

import multiprocessing as mp
import os
import pickle
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
    with pytest.raises(SystemExit) as stop:
        ca2e.main(ca2e.Args(**{"buffer_size": 10_000, "prior_dir": str(folder / "priors"), **settings}))
    message = stop.value.code
    assert isinstance(message, str) and message.startswith("error: ") and "\n" not in message  # so the status is 1
    assert not mp.active_children()
    return message


@pytest.mark.parametrize("env_id, hint", [
    ("NoSuchGame-v4", "not an Atari game"), ("CartPole-v1", "not an Atari game"),
    ("Hopper-v5", "not an Atari game"), ("Hopper-v2", "PongNoFrameskip-v4 or ALE"),
    ("Pong-v4", "use PongNoFrameskip-v4"), ("PongDeterministic-v4", "use PongNoFrameskip-v4"),
])
def test_ids(env_id, hint, tmp_path, monkeypatch):
    assert hint in refused(tmp_path, monkeypatch, env_id=env_id)


def test_ids_that_play():
    assert ca2e.atari_game("PongNoFrameskip-v4") == ("pong", 0.0)
    assert ca2e.atari_game("ALE/MsPacman-v5") == ("ms_pacman", 0.25)


@pytest.mark.parametrize("settings, hint", [
    ({"num_nature_actors": 0, "num_prior_actors": 0}, "no actors"),
    ({"batch_size": 20_000}, "--batch-size 20000 is larger than the buffer of 10000"),
    ({"buffer_size": 500}, "--buffer-size and --total-timesteps of 856 at least"),
    ({"buffer_size": 10**10, "total_timesteps": 10**10}, "lower --buffer-size"),
    ({"n_step": 0}, "--n-step must be 1 to 255"), ({"n_step": 256}, "--n-step must be 1 to 255"),
    ({"resume": "runs/none"}, "does not exist"),
    ({"evaluate": "none.pt"}, "does not exist"),
])
def test_settings(settings, hint, tmp_path, monkeypatch):
    with_prior(tmp_path)
    assert hint in refused(tmp_path, monkeypatch, **settings)


def with_prior(folder, content=None):
    """Puts a prior for Pong into folder: the shipped one, or one of content."""
    path = folder / "priors" / "PongNoFrameskip-v4" / "prior.pt"
    path.parent.mkdir(parents=True)
    path.write_bytes(PRIOR.read_bytes())
    if content is not None:
        torch.save(content, path)
    return path


def test_no_priors_names_the_command_that_trains_one(tmp_path, monkeypatch):
    message = refused(tmp_path, monkeypatch)
    assert "python pretrain_priors.py --env-id PongNoFrameskip-v4" in message and "--num-prior-actors 0" in message


def test_broken_priors(tmp_path, monkeypatch):
    good = torch.load(PRIOR, weights_only=True)
    path = with_prior(tmp_path)
    smaller = {name: tensor[:3] for name, tensor in good["network"].items()}
    for content, hint in (({**good, "env_id": "BreakoutNoFrameskip-v4"}, "is for BreakoutNoFrameskip-v4, not for Pong"),
                          ({**good, "format": 99}, "has the format 99, not 1"),
                          ({**good, "network": smaller}, "another shape"),
                          ({**good, "average_return": "high"}, "is no checkpoint"), ([1, 2, 3], "is no checkpoint")):
        torch.save(content, path)
        message = refused(tmp_path, monkeypatch)
        assert str(path) in message and hint in message
    for content in (PRIOR.read_bytes()[:100_000], b"", b"not a checkpoint"):
        path.write_bytes(content)
        assert "is no checkpoint" in refused(tmp_path, monkeypatch)


def test_code_in_a_pickle_never_runs(tmp_path, monkeypatch):
    class Malicious:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "it ran"),)

    path = with_prior(tmp_path)
    for write in (lambda: torch.save({"format": 1, "network": Malicious()}, path),
                  lambda: path.write_bytes(pickle.dumps(Malicious()))):
        write()
        assert "is no checkpoint" in refused(tmp_path, monkeypatch)
    assert not (tmp_path / "it ran").exists()


def test_a_run_folder_that_cannot_be_written(tmp_path, monkeypatch):
    (tmp_path / "runs").write_text("a file where the folder should be")
    assert "cannot write to runs/" in refused(tmp_path, monkeypatch, num_prior_actors=0)


def test_a_loss_that_is_not_finite_stops_the_run_and_names_the_update(tmp_path, monkeypatch):
    message = refused(tmp_path, monkeypatch, num_prior_actors=0, num_nature_actors=1, sync=True, learning_starts=50,
                      total_timesteps=2000, learning_rate=float("inf"), buffer_size=2000)
    assert message.startswith("error: the loss of update 2 is not finite"), message


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
    assert message.startswith("error: the loss of update 7 is not finite"), message


def test_weights_that_are_not_finite_are_neither_saved_nor_loaded(tmp_path, monkeypatch):
    env = ddpg.make_control("InvertedPendulum-v5")
    agent, state = ddpg.DDPG(ddpg.Args(), env, torch.device("cpu"), 0), {"updates": 7, "evaluations": [], "global_step": 9}
    args, path = ddpg.Args(env_id="InvertedPendulum-v5"), tmp_path / "agent.pt"
    ddpg.save_agent(args, path, agent, state)
    before = path.read_bytes()
    with torch.no_grad():
        agent.online.critic.network[0].weight[0, 0] = float("nan")
    with pytest.raises(SystemExit, match="no longer finite at update 7, not saved"):
        ddpg.save_agent(args, path, agent, state)
    assert path.read_bytes() == before
    prior = torch.load(PRIOR, weights_only=True)
    prior["network"]["network.0.weight"][0] = float("inf")
    network = ca2e.QNetwork(ca2e.make_atari("PongNoFrameskip-v4"))
    with pytest.raises(SystemExit, match="holds weights that are not finite"):
        ca2e.load_checkpoint(with_prior(tmp_path, prior), "PongNoFrameskip-v4", network)


def resume(monkeypatch, folder, module=ddpg, *arguments):
    """What --resume of the folder says."""
    monkeypatch.setattr("sys.argv", ["script", "--resume", str(folder), *arguments])
    with pytest.raises(SystemExit) as exit_:
        module.main(module.parse())
    assert "\n" not in str(exit_.value) and str(exit_.value).startswith("error: ")
    return str(exit_.value)


def test_a_run_that_cannot_be_resumed(tmp_path, monkeypatch):
    env, path = ddpg.make_control("InvertedPendulum-v5"), tmp_path / "agent.pt"
    args = ddpg.Args(env_id="InvertedPendulum-v5", num_prior_actors=0, total_timesteps=6000)
    state = {"global_step": 9, "prior_steps": 0, "updates": 7, "evaluations": [], "prior_replay_share": 0.0,
             "prior_batch_share": 0.0, "roles": [0, 1, 2, 3, 4]}
    agent = ddpg.DDPG(args, env, torch.device("cpu"), 0)
    cannot = "no agent.pt that this version can go on from"
    assert cannot in resume(monkeypatch, tmp_path)  # there is none
    path.write_bytes(b"no checkpoint")
    assert cannot in resume(monkeypatch, tmp_path)
    ddpg.save_agent(args, path, agent, state)
    assert cannot in resume(monkeypatch, tmp_path, ca2e)  # the other script's
    good = torch.load(path, weights_only=True)

    def changed(**values):
        torch.save({**good, **values}, path)
        return resume(monkeypatch, tmp_path)

    assert cannot in changed(args={**good["args"], "a_newer_flag": 1})
    assert cannot in changed(args={**good["args"], "tau": "0.1"})
    assert "has the format 2, not 1" in changed(format=2)
    assert "is of another version" in changed(state={**state, "global_step": "9"})
    assert "is of another version" in changed(state={**state, "roles": [0]})
    ddpg.save_agent(args, path, agent, state)
    assert "other numbers of actors" in resume(
        monkeypatch, tmp_path, ddpg, *"--num-nature-actors 4 --num-prior-actors 1 --prior-dir".split(), str(PRIOR.parents[1]))
    assert "is of another version" in changed(state={key: state[key] for key in list(state)[1:]})
    assert "cannot be resumed" in changed(optimizer={})
    assert "cannot be resumed" in changed(critic={})

    (tmp_path / "evil.py").write_text(f"open({str(tmp_path / 'it ran')!r}, 'w')")
    monkeypatch.syspath_prepend(tmp_path)
    assert cannot in changed(args={**good["args"], "env_id": "evil:Hopper-v5"}, env_id="evil:Hopper-v5")
    assert not (tmp_path / "it ran").exists()


def test_zeros_that_would_only_fail_later(tmp_path, monkeypatch):
    for name in ("eval_frequency", "exploration_steps", "target_network_frequency", "publish_frequency",
                 "retire_patience"):
        assert "must be 1 or more" in refused(tmp_path, monkeypatch, num_prior_actors=0, **{name: 0})
    assert "--learning-starts" in refused(tmp_path, monkeypatch, num_prior_actors=0, total_timesteps=10_000)


def test_a_prior_that_was_never_evaluated(tmp_path, monkeypatch):
    with_prior(tmp_path, {**torch.load(PRIOR, weights_only=True), "average_return": -float("inf")})
    assert "before its first evaluation" in refused(tmp_path, monkeypatch)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs the device that is always full")
def test_a_full_disk_keeps_what_was_saved_before(tmp_path):
    path = tmp_path / "agent.pt"
    ca2e.save_checkpoint(path, {"step": 1})
    path.with_suffix(".tmp").symlink_to("/dev/full")  # every write fails, as on a full disk
    with pytest.raises(SystemExit, match="^error: cannot save .*No space left on device.*intact$"):
        ca2e.save_checkpoint(path, {"step": 2})
    assert torch.load(path, weights_only=True) == {"step": 1} and list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("script", ["ca2e_dqn_atari.py", "ca2e_ddpg_mujoco.py"])
def test_what_the_system_refuses_is_one_line_wherever_it_happens(script):
    refuse = ("import runpy, sys, torch\n"
              "def full(_): raise OSError(28, 'No space left on device')\n"
              f"torch.manual_seed, sys.argv = full, [{script!r}]\n"
              f"runpy.run_path({str(PRIOR.parents[2] / script)!r}, run_name='__main__')")
    ended = subprocess.run([sys.executable, "-c", refuse], capture_output=True, text=True, timeout=60)
    assert ended.returncode == 1 and "Traceback" not in ended.stderr
    assert ended.stderr.strip().startswith("error: the system refuses ([Errno 28]")
