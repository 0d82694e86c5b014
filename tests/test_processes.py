"""Real processes: runs end, stop, resume and die without leaving anything behind.

What both CA2E scripts share letter for letter (a test holds them so) is tried where it takes seconds: with CA2E-DDPG
on InvertedPendulum-v5, and CA2E-DQN on Pong and on a little image game.
"""

import contextlib
import os
import random
import shutil
import signal
import subprocess
import sys
import threading
import time
import uuid
from pathlib import Path

import pytest
import torch

import catch_game
import pretend_cuda
import ca2e_ddpg_mujoco as ddpg
import ca2e_dqn_atari as dqn

ROOT = Path(__file__).parents[1]
SMALL = ["--total-timesteps", "1000", "--learning-starts", "400", "--eval-frequency", "500", "--eval-episodes", "1",
         "--num-nature-actors", "2", "--num-prior-actors", "1", "--prior-dir", str(ROOT / "priors")]
PENDULUM = ["--env-id", "InvertedPendulum-v5", *SMALL]
SAVES_AND_LOGS_OFTEN = f"""
import sys
sys.path.insert(0, {str(ROOT)!r})
import ca2e_ddpg_mujoco as ca2e
ca2e.SAVE_SECONDS, ca2e.LOG_SECONDS = 0.2, 1
ca2e.main(ca2e.parse())
"""
FEWER_GAMES = f"""
import sys
sys.path.insert(0, {str(ROOT)!r})
import ca2e_dqn_atari as ca2e
play = ca2e.play_atari
ca2e.play_atari = lambda env_id, q_network, games, *others: play(env_id, q_network, min(games, 3), *others)
ca2e.main(ca2e.parse())
"""  # twenty games at the end take half a minute
AS_ON_A_MAC = f"""
import os, sys
sys.path.insert(0, {str(ROOT)!r})
import ca2e_ddpg_mujoco as ca2e
get_context = ca2e.mp.get_context
ca2e.mp.get_context = lambda method: get_context("spawn")
del os.memfd_create
ca2e.LOG_SECONDS = 1
ca2e.main(ca2e.parse())
"""  # children are spawned, and memory has a name for a moment
linux = pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="looks for processes in /proc")


class Run:
    """A script of ours in a process group of its own, whose descendants are known by a mark in their environment."""

    started = []

    def __init__(self, folder, *arguments, script=ROOT / "ca2e_ddpg_mujoco.py"):
        self.mark, self.socket_folders = uuid.uuid4().hex, set(Path("/tmp").glob("pymp-*"))
        self.shared_memory = set(os.listdir("/dev/shm"))
        self.process = subprocess.Popen(
            [sys.executable, "-u", str(script), *arguments], cwd=folder, stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT, text=True, start_new_session=True, env={**os.environ, "MARK": self.mark})
        self.output = ""
        self.started.append(self)

    def wait_for(self, text):
        """Reads the output until text comes."""
        timer = threading.Timer(300, self.process.kill)
        timer.start()
        try:
            while text not in self.output:
                line = self.process.stdout.readline()
                assert line, f"ended without {text!r}:\n{self.output}"
                self.output += line
        finally:
            timer.cancel()

    def read_on(self):
        """Reads the output to its end."""
        for line in self.process.stdout:
            self.output += line

    def end(self, timeout=600):  # a start alone may take a minute beside others
        """Waits for the end; returns the exit status."""
        self.output += self.process.communicate(timeout=timeout)[0]
        return self.process.returncode

    def descendants(self):
        """Process ids that bear the mark and still run."""
        found = []
        for path in Path("/proc").glob("[0-9]*"):
            try:
                state = (path / "stat").read_text().rsplit(")", 1)[1].split()[0]
                if self.mark.encode() in (path / "environ").read_bytes() and state != "Z":
                    found.append(int(path.name))
            except OSError:
                continue
        return found

    def leaves(self):
        """The manager, the actors and the evaluator, in the order of their starts; children of the fork server."""
        pids = [pid for pid in self.descendants() if "resource_tracker" not in command(pid)]
        parents = {parent(pid) for pid in pids}
        starts = {pid: started(pid) for pid in pids if pid not in parents}
        return sorted(filter(starts.get, starts), key=starts.get)  # one that has ended since has 0, and is left out

    def assert_nothing_stays(self, seconds=20):
        """Of this run; others may run beside it, whose folders are in use, or will be in a moment."""
        def left():
            bound = Path("/proc/net/unix").read_text()
            folders = {path for path in Path("/tmp").glob("pymp-*") if f"{path}/" not in bound} - self.socket_folders
            return [*self.descendants(), *folders, *set(os.listdir("/dev/shm")) - self.shared_memory]

        deadline = time.time() + seconds
        while (found := left()) and time.time() < deadline:  # not asked once more: another run may just begin
            time.sleep(0.1)
        assert not found


@pytest.fixture(autouse=True)
def no_run_outlives_its_test():
    """Where a test fails its run may go on; with the learner its children end."""
    yield
    while Run.started:
        Run.started.pop().process.kill()


@linux
def test_a_run_learns_logs_saves_and_leaves_nothing_behind(tmp_path):
    run = Run(tmp_path, FEWER_GAMES, *SMALL, "--capture-video", script="-c")
    assert run.end() == 0, run.output
    run.assert_nothing_stays()
    (agent,) = tmp_path.glob("runs/*/agent.pt")
    assert f"{agent.relative_to(tmp_path)}: -2" in run.output and "over 20 greedy games" in run.output
    assert agent.with_suffix(".gif").stat().st_size > 10_000
    network = dqn.QNetwork(dqn.make_atari("PongNoFrameskip-v4"))
    state = dqn.load(agent, "PongNoFrameskip-v4", network=network)  # as a prior is loaded
    assert 1000 <= state["global_step"] < 1000 + 3 * 50
    owed = 8 * (state["global_step"] - 400) / 32
    assert owed - 1 <= state["updates"] <= owed  # every step got its updates
    assert state["average_return"] < -15
    events = scalars(agent.parent)
    assert events["charts/final_return"][0].step == state["global_step"]


def wait_until(condition, every=0.1):
    """Fails if it does not come within 200 seconds."""
    deadline = time.time() + 200
    while not condition():
        assert time.time() < deadline
        time.sleep(every)


def scalars(folder):
    """TensorBoard's, by name."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(folder))
    events.Reload()
    return {name: events.Scalars(name) for name in events.Tags()["scalars"]}


def saved_state(folder):
    return torch.load(folder / "agent.pt", weights_only=True)


@linux
def test_ctrl_c_sigkill_and_sigterm_then_each_time_resumed_end_at_the_same_step_as_an_unbroken_run(tmp_path):
    run = Run(tmp_path, *PENDULUM, "--total-timesteps", "1000000")
    run.wait_for("learner on ")
    time.sleep(2)
    os.killpg(run.process.pid, signal.SIGINT)  # as a terminal does: the whole group gets it
    before = run.output
    assert run.end() == 130, run.output
    run.assert_nothing_stays()
    last = run.output[len(before):].strip().splitlines()[-1]
    assert last.startswith("stopped and saved; go on with") and "Traceback" not in run.output
    resume = last.split("`")[1].split("--resume ")[1]
    folder = tmp_path / resume
    first = saved_state(folder)

    run = Run(tmp_path, SAVES_AND_LOGS_OFTEN, "--resume", resume, script="-c")
    run.wait_for("learner on ")
    wait_until(lambda: (state := saved_state(folder))["updates"] >= first["updates"] + 100
               and len(state["evaluations"]) > len(first["evaluations"]))
    time.sleep(0.5)  # until TensorBoard's thread has written the same
    os.kill(run.process.pid, signal.SIGKILL)
    run.end()
    run.assert_nothing_stays()
    assert f"from step {first['global_step']:,} |" in run.output
    second = saved_state(folder)
    assert second["updates"] >= first["updates"] + 100 and len(second["evaluations"]) > len(first["evaluations"])

    run = Run(tmp_path, SAVES_AND_LOGS_OFTEN, "--resume", resume, script="-c")
    wait_until(lambda: saved_state(folder)["global_step"] > second["global_step"])
    run.process.terminate()
    assert run.end() == 143, run.output
    assert f"from step {second['global_step']:,} |" in run.output and "Traceback" not in run.output
    third = saved_state(folder)
    assert third["global_step"] > second["global_step"]
    assert third["optimizer"]["state"][0]["step"].item() == third["updates"]

    total = third["global_step"] + 600
    run = Run(tmp_path, "--resume", resume, "--total-timesteps", str(total))
    assert run.end() == 0, run.output
    run.assert_nothing_stays()
    last = saved_state(folder)
    assert total <= last["global_step"] < total + 3 * 50  # as the unbroken run above
    assert last["evaluations"][: len(third["evaluations"])] == third["evaluations"]
    evaluations = scalars(folder)["charts/eval_return"]
    steps, values = [event.step for event in evaluations], [event.value for event in evaluations]
    assert steps == sorted(set(steps)) and steps[0] < third["global_step"] < steps[-1]
    logged = iter(values)  # in order, and one more where the kill came between a line of the log and the next save
    assert all(pytest.approx(saved) in logged for saved in last["evaluations"]), (values, last["evaluations"])
    assert len(values) <= len(last["evaluations"]) + 1


@linux
@pytest.mark.parametrize("number, status, processes, script", [
    (signal.SIGINT, 130, 1, "ca2e_ddpg_mujoco.py"), (signal.SIGTERM, 143, 6, "ca2e_ddpg_mujoco.py"),
    (signal.SIGTERM, 143, 6, "benchmark/distill.py ca2e_ddpg_mujoco")])
def test_a_stop_while_children_are_starting(number, status, processes, script, tmp_path):
    path, *name = f"{ROOT}/{script}".split()
    run = Run(tmp_path, *name, *PENDULUM, "--total-timesteps", "1000000", "--prior-dir", f"{ROOT}/priors", script=path)
    run.wait_for("learner on ")
    wait_until(lambda: len(run.descendants()) >= processes, every=0.01)  # 6: learner, two helpers, manager, two actors of three
    os.killpg(run.process.pid, number)
    assert run.end() == status, run.output
    (agent,) = tmp_path.glob("runs/*/agent.pt")
    hint = f"go on with `python {ROOT}/{script} --resume {agent.parent.relative_to(tmp_path)}`"  # as it was typed
    assert "Traceback" not in run.output and run.output.count(hint) == 1, run.output
    torch.load(agent, weights_only=True)
    run.assert_nothing_stays()


@linux
def test_no_torn_transition_is_ever_learned_from_while_actors_die_at_every_point(tmp_path, monkeypatch):
    monkeypatch.setenv("KILL", "1")  # in calls, while copying weights, while writing a block ...
    run = Run(tmp_path, *"--env-id Counter-v0 --num-prior-actors 0 --num-nature-actors 4 --buffer-size 1000".split(),
              *"--total-timesteps 1000000 --learning-starts 300 --eval-frequency 100000".split(),
              *"--samples-per-insert 16".split(), script=ROOT / "tests" / "torn_steps.py")
    run.wait_for("learner on ")
    rng, kills, reader = random.Random(0), 0, threading.Thread(target=run.read_on, daemon=True)
    reader.start()
    deadline = time.time() + 200
    while time.time() < deadline and (kills < 12 or not all(f"actor {i} died" in run.output for i in range(4))):
        leaves = run.leaves()[1:]  # ... and wherever they are, the evaluator too, but not the manager, the first
        if kills < 12 and len(leaves) > 2:
            os.kill(rng.choice(leaves), signal.SIGKILL)
            kills += 1
        time.sleep(rng.uniform(0.2, 1.0))
        assert run.process.poll() is None, run.output
    os.kill(run.process.pid, signal.SIGINT)
    reader.join(300)
    status = run.end()
    assert "error: torn" not in run.output and kills >= 8, run.output
    assert all(f"actor {index} died (status -9)" in run.output for index in range(4)), run.output
    assert int(run.output.split("checked ")[1].split()[0]) > 1_000
    (events,) = tmp_path.glob("runs/*")
    assert torch.load(events / "agent.pt", weights_only=True)["updates"] > 20
    assert status == 130, run.output
    run.assert_nothing_stays()


@linux
def test_a_bug_in_the_actors_is_one_traceback_and_the_advice_to_try_sync(tmp_path, monkeypatch):
    monkeypatch.setenv("RAISE", "1")
    run = Run(tmp_path, *"--env-id Counter-v0 --num-prior-actors 0 --num-nature-actors 4 --buffer-size 1000".split(),
              *"--total-timesteps 1000000 --learning-starts 300".split(), script=ROOT / "tests" / "torn_steps.py")
    assert run.end() == 1
    assert run.output.count("Traceback") == run.output.count("ValueError: a fault of the environment") == 1, run.output
    assert " failed, as above; --sync runs all in one process" in run.output
    run.assert_nothing_stays()


@linux
def test_children_that_keep_dying_end_the_run(tmp_path):
    run = Run(tmp_path, *PENDULUM, "--total-timesteps", "1000000")
    run.wait_for("learner on ")
    killed, deadline = set(), time.time() + 200  # on a loaded machine a start may take a minute
    while run.process.poll() is None and time.time() < deadline:
        for pid in {*run.leaves()[1:]} - killed:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
            killed.add(pid)
        time.sleep(0.1)
    assert run.end() == 1 and run.output.strip().splitlines()[-1].startswith("error: 5 children died")
    assert "Traceback" not in run.output
    run.assert_nothing_stays()


@linux
def test_a_long_tmpdir_and_a_reader_of_the_output_that_goes_away(tmp_path, monkeypatch):
    (long := tmp_path / ("long" * 40)).mkdir()
    monkeypatch.setenv("TMPDIR", str(long))  # longer than the path of a socket may be
    run = Run(tmp_path, SAVES_AND_LOGS_OFTEN, *PENDULUM, "--total-timesteps", "1000000", script="-c")
    run.process.stdout.readline()
    wait_until(lambda: len(run.leaves()) == 5 and [*tmp_path.glob("runs/*/agent.pt")])  # saved for the first time
    run.process.stdout.close()  # as `| head -n 1` does
    assert run.process.wait(100) == 1
    (agent,) = tmp_path.glob("runs/*/agent.pt")
    torch.load(agent, weights_only=True)
    run.assert_nothing_stays()


@linux
def test_running_free_comes_to_an_end(tmp_path):
    run = Run(tmp_path, *"--env-id Catch --num-prior-actors 0 --num-nature-actors 2 --total-timesteps 1000".split(),
              *"--learning-starts 200 --samples-per-insert 0".split(), script=ROOT / "tests" / "catch_game.py")
    assert run.end() == 0, run.output
    (agent,) = tmp_path.glob("runs/*/agent.pt")
    state = torch.load(agent, weights_only=True)
    assert state["global_step"] >= 1000 and state["updates"] > 0
    run.assert_nothing_stays()


@linux
@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs the device that is always full")
def test_a_disk_that_is_full_when_a_run_is_stopped(tmp_path):
    run = Run(tmp_path, *PENDULUM, "--total-timesteps", "1000000")
    run.wait_for("learner on ")
    wait_until(lambda: list(tmp_path.glob("runs/*/agent.pt")))  # saved for the first time
    found = list(tmp_path.glob("runs/*/agent.pt"))
    before = found[0].read_bytes()
    found[0].with_suffix(".tmp").symlink_to("/dev/full")
    run.process.terminate()
    assert run.end() == 1, run.output
    assert run.output.strip().splitlines()[-1].startswith("error: ended by OSError(28, ") and "Traceback" not in run.output
    assert found[0].read_bytes() == before
    run.assert_nothing_stays()


@linux
def test_a_loss_that_is_not_finite_ends_the_run_and_the_checkpoint_before_it_is_intact(tmp_path):
    run = Run(tmp_path, *PENDULUM, "--critic-learning-rate", "1e9")
    assert run.end() == 1, run.output
    assert run.output.strip().splitlines()[-1].startswith("error: the loss is not finite, by update ") and "Traceback" not in run.output
    run.assert_nothing_stays()
    (agent,) = tmp_path.glob("runs/*/agent.pt")
    learner = ddpg.DDPG(ddpg.Args(), ddpg.make_control("InvertedPendulum-v5"), torch.device("cpu"))
    ddpg.load(agent, "InvertedPendulum-v5", **learner.parts)
    assert all(tensor.isfinite().all() for tensor in learner.online.state_dict().values())


@linux
def test_as_on_a_mac_a_killed_actor_is_started_again_and_ctrl_c_saves(tmp_path):
    run = Run(tmp_path, AS_ON_A_MAC, *PENDULUM, "--total-timesteps", "1000000", script="-c")
    run.wait_for("updates/s")
    wait_until(lambda: len(run.leaves()) == 5)  # manager, three actors, evaluator
    os.kill(run.leaves()[2], signal.SIGKILL)
    run.wait_for("actor 1 died (status -9) and is started again")
    run.output += run.process.stdout.readline()  # of progress
    os.killpg(run.process.pid, signal.SIGINT)
    assert run.end() == 130 and "go on with `python " in run.output and "Traceback" not in run.output, run.output
    (agent,) = tmp_path.glob("runs/*/agent.pt")
    assert torch.load(agent, weights_only=True)["format"] == 2
    run.assert_nothing_stays()


def assert_nothing_listens_on_a_network_address(run):
    inodes = {line.split()[9] for name in ("tcp", "tcp6", "udp", "udp6")
              for line in Path(f"/proc/net/{name}").read_text().splitlines()[1:]}
    for pid in run.descendants():
        for descriptor in Path(f"/proc/{pid}/fd").iterdir():
            with contextlib.suppress(OSError):
                assert os.readlink(descriptor).removeprefix("socket:[").rstrip("]") not in inodes
    folders = set(Path("/tmp").glob("pymp-*")) - run.socket_folders
    modes = []
    for folder in folders:
        with contextlib.suppress(FileNotFoundError):  # of another run, which has just ended
            modes.append(folder.stat().st_mode)
    assert modes and all(mode & 0o077 == 0 for mode in modes)


@linux
def test_a_killed_actor_is_started_again_and_a_killed_manager_ends_the_run_in_one_line(tmp_path):
    run = Run(tmp_path, *PENDULUM, "--total-timesteps", "1000000")
    run.wait_for("learner on ")
    wait_until(lambda: len(run.leaves()) == 5)
    time.sleep(2)  # until they act
    manager, *children = leaves = run.leaves()
    assert len(leaves) == 5  # manager, three actors, evaluator, which started last
    assert_nothing_listens_on_a_network_address(run)
    for victim in children[-2:]:
        os.kill(victim, signal.SIGKILL)
        deadline = time.time() + 200
        while time.time() < deadline and (victim in run.leaves() or len(run.leaves()) < 5):
            time.sleep(0.1)
        assert len(run.leaves()) == 5 and victim not in run.leaves()
    os.kill(manager, signal.SIGKILL)
    assert run.end() == 1
    assert run.output.strip().splitlines()[-1].startswith("error: the manager, or who reads this output, is gone (")
    assert "Traceback" not in run.output
    run.assert_nothing_stays()


def command(pid):
    with contextlib.suppress(OSError):  # it has ended since
        return Path(f"/proc/{pid}/cmdline").read_text()
    return ""


def started(pid):
    with contextlib.suppress(OSError):
        return int(Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[19])
    return 0


def parent(pid):
    with contextlib.suppress(OSError):
        return int(Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[1])
    return 0


@pytest.mark.parametrize("script", [dqn, ddpg])
def test_in_one_process_two_runs_give_the_same_weights_and_a_pretended_gpu_too(script, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    handlers = {number: signal.getsignal(number) for number in script.STOP_SIGNALS}
    env_id, agents = "Catch" if script is dqn else "InvertedPendulum-v5", []
    if script is dqn:
        catch_game.replace_atari(monkeypatch.setattr)

    def train(run="runs/*", total_timesteps=500, resume=""):
        script.main(script.Args(sync=True, env_id=env_id, total_timesteps=total_timesteps, learning_starts=400,
                                num_nature_actors=1, eval_frequency=450, num_prior_actors=int(script is ddpg),
                                prior_dir=str(ROOT / "priors"), eval_episodes=1, resume=resume))
        (path,) = set(tmp_path.glob(f"{run}/agent.pt")) - {agent for agent, _ in agents}
        agents.append((path, torch.load(path, weights_only=True)))

    train()
    train()
    for copy in ("a", "b"):
        shutil.copytree(agents[0][0].parent, copy)
    train("a", 1100, resume="a")
    learner, agent, calls, published = script.DQN if script is dqn else script.DDPG, [], [], []
    update, publish = learner.update, script.publish

    def watched_update(self, batch, global_step):
        agent[:] = [self]
        calls.append(gpu.to_cuda)
        assert self.device.type == "cuda" and all(pretend_cuda.marked(column) for column in batch)
        before = gpu.to_cuda, gpu.to_cpu, gpu.reads
        result = update(self, batch, global_step)
        assert (gpu.to_cuda, gpu.to_cpu, gpu.reads) == before  # nothing for which the GPU would have to be waited for
        return result

    monkeypatch.setattr(learner, "update", watched_update)
    monkeypatch.setattr(script, "publish", lambda *args: published.append(args[1:]) or publish(*args))
    with pretend_cuda.PretendCuda(monkeypatch) as gpu:
        train("b", 1100, resume="b")
        calls.clear()
        published.clear()
        train()
    for number, handler in handlers.items():
        signal.signal(number, handler)
    assert set(published) == {(agent[0].online, agent[0].average)} and len(published) > 1
    assert {after - before for before, after in zip(calls, calls[1:])} == {6}  # its columns, and nothing else
    assert agent[0].learn.graph.replays == agent[0].updates - 3 > 10
    assert all(group["capturable"] for group in agent[0].adam.param_groups)  # else a real GPU refuses to record
    assert all(pretend_cuda.marked(parameter) for group in agent[0].adam.param_groups for parameter in group["params"])
    (_, one), (_, two), (_, resumed), (_, resumed_on_gpu), (_, three) = agents
    names = "global_step", "prior_steps", "updates", "evaluations"
    assert [one[name] for name in names] == [two[name] for name in names] == [three[name] for name in names]
    assert one["updates"] >= 20 and one["evaluations"] and resumed["updates"] >= one["updates"] + 3
    for first, other in ((one, two), (one, three), (resumed, resumed_on_gpu)):
        assert all(torch.equal(first["network"][key], other["network"][key]) for key in first["network"])
    prefix = "" if script is dqn else "actor."  # an average is saved as the agent; the newest weights lie beside it
    assert not any(torch.equal(one["network"][key], one["online"][prefix + key]) for key in one["network"])
    torch.manual_seed(1)
    make, network = (script.make_atari, script.QNetwork) if script is dqn else (script.make_control, script.Actor)
    fresh = network(make(env_id)).state_dict()  # the run's own seed: the weights that it began with
    assert not any(torch.equal(one["network"][key], fresh[key]) for key in fresh)


@linux
def test_the_whole_pipeline_learns_a_little_image_game(tmp_path):
    run = Run(tmp_path, *"--env-id Catch --num-prior-actors 0 --num-nature-actors 3 --total-timesteps 1100".split(),
              *"--buffer-size 1100 --learning-starts 300 --exploration-steps 600 --end-e 0.02".split(),
              *"--samples-per-insert 16 --learning-rate 3e-4 --target-network-frequency 150 --n-step 1".split(),
              *"--eval-frequency 500 --eval-episodes 20".split(), script=ROOT / "tests" / "catch_game.py")
    assert run.end() == 0, run.output
    (agent,) = tmp_path.glob("runs/*/agent.pt")
    state = torch.load(agent, weights_only=True)
    assert state["evaluations"] and scalars(agent.parent)["charts/eval_return"]
    assert state["average_return"] >= 2, run.output  # the best is 5, one that stands still gets -2.5; seen, two seeds: 5.0
    run.assert_nothing_stays()


@linux
def test_the_whole_pipeline_learns_to_balance_a_pendulum_and_its_priors_retire(tmp_path):
    run = Run(tmp_path, *"--env-id InvertedPendulum-v5 --total-timesteps 7500 --learning-starts 1000".split(),
              *"--tau 0.005 --critic-l2 0 --eval-frequency 500 --retire-patience 1 --prior-dir".split(), str(ROOT / "priors"))
    # An untrained one falls within 30 steps. By 6,500 steps five runs had reached 900, one, on a busy machine, 204.
    run.wait_for("ddpg.pt (rbar 97.2) has retired by step")
    time.sleep(1)  # until TensorBoard's thread has written it
    run.process.terminate()
    assert run.end() == 143, run.output
    (agent,) = tmp_path.glob("runs/*/agent.pt")
    state = torch.load(agent, weights_only=True)
    assert max(state["evaluations"]) >= 1.05 * 97.2 > state["evaluations"][0], run.output
    assert 0 < state["prior_steps"] < state["global_step"] * 3 / 8 + 3 * 50
    events = scalars(agent.parent)
    acting = [event.value for event in events["priors/acting"]]
    assert [event.step for event in events["priors/acting"]] == [event.step for event in events["charts/eval_return"]]
    assert acting[0] == 3 > acting[-1] and acting == sorted(acting, reverse=True)
    run.assert_nothing_stays()
