"""learner: the loop of Alg. 3, with a replay and an agent that follow a script."""

import copy
from types import SimpleNamespace

import numpy as np
import torch
from common import expect, numbers, real

SIZE, BEFORE = 3, 100  # transitions in a batch; updates that the agent has made already, as after --resume


class Replay:
    """Hands out `plan` numbers of batches, one a call; keeps what it is told."""

    def __init__(self, plan, total, step=100):
        self.plan, self.total, self.step, self.told, self.given = list(plan), total, step, [], []
        self.rng, self.calls = numbers(), 0

    def sample(self, slots, counts, priorities):
        for name, value in (("slots", slots), ("counts", counts), ("priorities", priorities)):
            assert isinstance(value, np.ndarray), f"sample got {name} as a {type(value).__name__}: an array of numpy is meant."
            assert np.ndim(value) == 1, f"sample got {name} of the shape {np.shape(value)}; (m,) is meant: flatten them."
        try:
            np.zeros(2000)[slots] + np.zeros(2000)[counts]  # as the replay does it
        except IndexError:
            raise AssertionError("sample got slots or counts that are no whole numbers: begin with np.zeros(0, np.int64).") from None
        assert len(slots) == len(counts) == len(priorities), (
            f"sample got {len(slots)} slots, {len(counts)} counts and {len(priorities)} priorities: as many of each.")
        assert np.isfinite(priorities).all(), "Priorities that are not finite went into the replay: before the next call, stop with sys.exit."
        self.told.append(tuple(np.array(value) for value in (slots, counts, priorities)))
        n = self.plan[self.calls] if self.calls < len(self.plan) else 0
        self.calls += 1
        assert self.calls < 60, "It never returns: it ends when all steps are inserted, and no batch is due any more."
        self.step = min(self.total, self.step + 10)
        slots = self.rng.permutation(50)[:n * SIZE].reshape(n, SIZE)
        self.given.append((slots, slots + 1000))
        return slots, slots + 1000, (slots / 50).astype(np.float32), {"global_step": self.step}, [("event", self.calls)]


class OnDevice(torch.Tensor):
    """As a tensor on a GPU: numpy cannot read it before `cpu`."""

    def numpy(self, *, force=False):
        assert force, "TD errors lie on the agent's device, a GPU perhaps: numpy reads them after Tensor.cpu() only."
        return self.cpu().numpy()

    def __array__(self, *_, **__):
        return self.numpy()

    def cpu(self):
        return self.as_subclass(torch.Tensor) if self.device.type == "cpu" else torch.zeros(self.shape, dtype=self.dtype)

    def to(self, *arguments, **options):
        return super().to(*arguments, **options).as_subclass(torch.Tensor if "cpu" in map(str, [*arguments, *options.values()]) else OnDevice)


class Agent:
    """Its TD errors are minus the slots: so it is seen which batch a priority belongs to."""

    def __init__(self, value=None):
        self.device, self.updates, self.online, self.average = torch.device("cpu"), BEFORE, "online", "average"
        self.target, self.matched = "target", []
        self.steps, self.weights, self.value = [], [], value

    def update(self, batch, global_step):
        assert isinstance(batch, (list, tuple)), f"agent.update got a {type(batch).__name__}; a list of six tensors is meant."
        assert all(isinstance(column, torch.Tensor) for column in batch), "agent.update takes tensors: see torch.from_numpy."
        assert all(column.device == self.device for column in batch), "The batch is not on agent.device: see Tensor.to."
        self.updates += 1
        self.matched.append(self.device.type != "cpu" or torch.equal(batch[1], batch[0] + 1000))
        self.steps.append(global_step)
        self.weights.append(batch[-1].tolist() if self.device.type == "cpu" else [])
        if self.device.type == "meta":  # a device without numbers, in the place of a GPU
            return torch.zeros(SIZE).as_subclass(OnDevice), {}
        error = -batch[0].to(torch.float32)
        if self.value is not None and self.updates == BEFORE + 1:
            error[1] = self.value
        return error, {"losses/td_loss": torch.tensor(float(self.updates - BEFORE))}


def run(student, plan, total=140, samples_per_insert=8.0, frequency=2, calls=30, value=None, device="cpu"):
    """The student's learner until it returns, or for so many calls, and all that was seen of it."""
    seen = SimpleNamespace(published=[], answers=[], board=[], returned=False, allowed=[])
    (board,) = np.array([(100, -1)], [("global_step", int), ("allowed_step", int)])  # as the real one: a record
    replay, agent = Replay(plan, total), Agent(value)
    agent.device = torch.device(device)

    def gather(store, slots, counts, weights, args):
        return slots, counts, slots, slots, slots, weights  # six, as the real one: its slots first, its weights last

    def allowed_step(start_step, sampled, args):
        seen.allowed.append((int(start_step), int(sampled)))
        return 7000 + int(start_step) + int(sampled)

    fakes = {"gather": gather, "allowed_step": allowed_step,
             "publish": lambda board, online, average: seen.published.append((agent.updates - BEFORE, online, average))}
    args = SimpleNamespace(total_timesteps=total, samples_per_insert=samples_per_insert, publish_frequency=frequency,
                           batch_size=SIZE, per_alpha=0.6, per_beta=0.4, learning_starts=0, local_buffer_size=4)
    before = {name: getattr(student, name) for name in fakes}
    try:
        for name, fake in fakes.items():
            setattr(student, name, fake)
        loop = student.learner(args, agent, replay, None, board)
        assert hasattr(loop, "__next__"), "learner is a generator: it yields after each call to the replay."
        for _ in range(calls):
            try:
                seen.answers.append(copy.deepcopy(next(loop)))  # as the log does, which writes them at once
            except StopIteration:
                seen.returned = True
                break
            seen.board.append({name: int(board[name]) for name in board.dtype.names})
    finally:
        for name, fake in before.items():
            setattr(student, name, fake)
    seen.replay, seen.agent = replay, agent
    return seen


def test_yields(student):
    """2 points: after each call it yields progress, events, metrics, and the number of updates made."""
    seen = run(student, [0, 2, 1], calls=3)
    assert all(isinstance(answer, (tuple, list)) and len(answer) == 4 for answer in seen.answers), (
        "It yields four things: progress, events, metrics, the number of updates.")
    assert all(isinstance(answer[0], dict) and isinstance(answer[1], list) for answer in seen.answers), (
        "The order is: progress (a dict), events (a list), metrics, the number of updates.")
    updates = [int(answer[3]) for answer in seen.answers]
    assert updates == [0, 2, 1], f"Of 0, 2 and 1 batches it yielded {updates} as the numbers of updates."
    assert [answer[0]["global_step"] for answer in seen.answers] == [110, 120, 130], "The progress is the replay's answer."
    assert [answer[1] for answer in seen.answers] == [[("event", i)] for i in (1, 2, 3)], (
        "The events are those of this call, each once.")
    assert isinstance(seen.answers[0][2], dict), "Before the first update there are no metrics: an empty dict, {}, is meant."
    losses = [float(answer[2].get("losses/td_loss", -1)) for answer in run(student, [2, 0, 1], calls=3).answers]
    assert losses == [2.0, 2.0, 3.0], (
        f"The metrics of updates 2, 2 and 3 are meant, the newest ones even where a call brings no batch; those of {losses} "
        "came.")


def test_update(student):
    """2 points: one update for each batch, with the global step."""
    seen = run(student, [2, 0, 1], calls=3)
    assert seen.agent.updates == BEFORE + 3, f"Three batches gave {seen.agent.updates - BEFORE} updates."
    assert seen.agent.steps == [110, 110, 130], (
        f"agent.update got the global steps {seen.agent.steps}; [110, 110, 130] is right, those of the replay's progress.")


def test_device(student):
    """1 point: the batch is moved to the agent's device, and the TD errors back from it."""
    try:
        run(student, [2, 1], calls=2, device="meta")
    except NotImplementedError as error:  # an array made on the device, which has no numbers here, was moved from it: right
        if "meta tensor" not in str(error):
            raise


def test_weights(student):
    """1 point: the importance weights go with their batch."""
    seen = run(student, [2], calls=1)
    expect(seen.agent.weights, seen.replay.given[0][0] / 50, "The weights that gather, and then update, got",
           {"All are 1: the weights of sample are not used.": np.ones((2, SIZE))})
    assert all(seen.agent.matched), (
        "gather got counts that are not those of its slots: a row of each. (With others, the real one makes the weights 0.)")


def test_priorities(student):
    """4 points: "update priorities": the absolute TD errors go back with the slots and counts they belong to."""
    seen = run(student, [1, 2, 2, 0, 2], total=1000, calls=6)
    assert len(seen.replay.told) == 6, f"It returned after {len(seen.replay.told)} calls, long before its steps were done."
    assert all(len(part) == 0 for part in seen.replay.told[0]), "In the first call there is nothing to tell yet."
    for call in (2, 1, 0, 3, 4):
        (slots, counts), told = seen.replay.given[call], seen.replay.told[call + 1]
        before = seen.replay.given[call - 1][0].ravel().astype(float)
        what = f"After a call that gave {len(slots)} batches, the next call's"
        expect(told[0], slots.ravel(), f"{what} slots",
               {"Only the last batch was told; all batches of the call are meant.": slots[-1:].ravel(),
                "The order is another one than that of the priorities: flatten row by row.": slots.T.ravel(),
                "Nothing was told: the priorities are never updated.": np.zeros(0)})
        expect(told[1], counts.ravel(), f"{what} counts", {"These are the slots.": slots.ravel()})
        expect(told[2], slots.ravel().astype(float), f"{what} priorities (the TD errors are minus the slots here)", {
            "A priority is no signed number: the absolute TD error is meant.": -slots.ravel().astype(float),
            "The square is not meant, but the absolute value.": slots.ravel().astype(float) ** 2,
            "These are the priorities of the call before; each belongs to its own slots.": before,
            "These are raised to alpha already; the replay does that.": slots.ravel() ** 0.6,
            "The priorities are shifted against their slots.": np.roll(slots.ravel(), 1).astype(float),
            "All priorities are 1: the TD errors are not used.": np.ones(slots.size),
            "All priorities are 0: the TD errors are not used.": np.zeros(slots.size)})


def test_board(student):
    """3 points: the board tells the actors the global step, and how far they may go."""
    seen = run(student, [2, 0, 1], calls=3)
    steps = [board["global_step"] for board in seen.board]
    assert steps == [110, 120, 130], f"The board's global_step after three calls was {steps}; [110, 120, 130] is right."
    allowed = [board["allowed_step"] for board in seen.board]
    assert allowed != [-1] * 3, "allowed_step on the board was never set: all actors would wait for ever."
    assert run(student, [0], calls=1).board[0]["allowed_step"] != -1, (
        "In a round without a batch allowed_step was not told: before learning_starts none is due, and all actors would wait.")
    assert allowed == [7106, 7106, 7109], (
        f"allowed_step was asked with (start step, sampled) {seen.allowed}; [(100, 6), (100, 6), (100, 9)] is right: the "
        "step at which this learner began, and all samples so far, 3 in a batch.")


def test_publish(student):
    """2 points: the networks are published every publish_frequency updates."""
    seen = run(student, [1, 4, 0, 2], calls=4)
    assert seen.published, "It did not publish after the updates 2, 4, 6: see publish_frequency; ask after each update, not after the round."
    at = [updates for updates, _, _ in seen.published]
    assert at == [2, 4, 6], f"With publish_frequency 2 it published after the updates {at}; [2, 4, 6] is right."
    assert seen.published[0][1:] == ("online", "average"), "publish takes the board, the online and the averaged network."


def test_end(student):
    """3 points: it ends when all steps are inserted and no batch is due; without a rate limit, at once."""
    seen = run(student, [1, 1, 1, 2, 1, 0], total=140)
    assert seen.returned, "It never returned, though all steps were inserted and no batch was due."
    assert seen.replay.calls == len(seen.answers), (
        "It returned before it yielded what its last call to the replay gave: yield in each round, then return.")
    assert len(seen.answers) == 6, (
        f"It returned after {len(seen.answers)} calls; 6 is right: all steps were inserted by the fourth, but batches "
        "were due until the sixth.")
    free = run(student, [1] * 50, total=140, samples_per_insert=0)
    assert free.returned, "Without a rate limit (samples_per_insert 0) batches are always due: it must end all the same."
    assert len(free.answers) == 4, f"Without a rate limit it returned after {len(free.answers)} calls; 4 is right."


def test_not_finite(student):
    """2 points: a loss that is not finite ends the run in one line, before it spoils the replay."""
    for value in (float("nan"), float("inf"), -float("inf")):
        try:
            run(student, [2, 1], calls=2, value=value)  # of two batches of three TD errors each, one is not finite
        except SystemExit as error:
            assert str(error.code).startswith("error:"), "sys.exit must say what happened, 'error: ...'."
        else:
            raise AssertionError(f"A TD error of {value}, one of six, did not end the run: stop with sys.exit and one line.")


def test_real(student):
    """2 points: three rounds with a real replay, which real actors filled, and the real agent."""
    with real(student, "learner") as (args, agent, replay, store, board, act):
        act()
        first, version, loop = replay.tree.nodes.copy(), int(board["version"]), student.learner(args, agent, replay, store, board)
        for _ in range(3):
            next(loop)
        assert agent.updates > 1, f"It made {agent.updates} updates, though batches were due."
        assert board["version"] > version, "It made updates, but published no network."
        assert board["allowed_step"] > 0, "Actors may not go on: see allowed_step."
        assert (replay.tree.nodes != first).any(), "No priority in the replay has changed."


test_real.seconds = 10  # a test that takes longer; it runs once the others pass
