"""receive(board, name, network, version) -> version: copies a network that another process may be writing meanwhile."""

import time

import numpy as np
import torch
from common import NONE, numbers

OLD, NEW = 1004, 1006  # versions: the one on the board, and that of the next publication
TRIES = 200  # looks at the version that find it odd, in a write that lasts


class Board:
    """The learner's board, on which a writer works between the reader's looks; when, and how long, is fixed.

    after: it begins once the reader has looked so often, at the version or at an array (0: before the first look). write:
    "lasting", half is new and the version odd for TRIES looks; "whole", it ends before the reader looks again.
    """

    def __init__(self, size: int, write: str = "", after: int = 0):
        self.size, self.write, self.after, self.offset = size, write, after, int(numbers().integers(9))
        self.version, self.state, self.looked, self.left = OLD, "", [], TRIES
        self.dtype = np.dtype([("version", int), ("newest", np.float32, size), ("average", np.float32, size)], align=True)
        self.memory = {name: self.content(name, OLD) for name in ("newest", "average")}
        self.turn()

    def content(self, name: str, version: int) -> np.ndarray:
        """What a version of a network holds: each parameter another number."""
        return np.arange(self.size, dtype=np.float32) + 100 * (version - 1000) + 50 * (name == "average") + self.offset + 0.25

    def fill(self, first: int) -> None:
        for name, memory in self.memory.items():
            memory[first:] = self.content(name, NEW)[first:]

    def turn(self) -> None:
        """The writer begins, if it is time."""
        if self.write and len(self.looked) == self.after:
            self.fill(self.size // 2)
            self.version, self.state = (OLD + 1 if self.write == "lasting" else NEW), self.write

    def __getitem__(self, key):
        assert key in self.dtype.names, f"It asked the board for {key!r}; there are 'version', 'newest' and 'average'."
        self.left -= self.state == "lasting" and key == "version"
        if self.state == "whole" or self.left < 0 and self.state:
            self.fill(0)
            self.version, self.state = NEW, ""
        assert len(self.looked) < 3000, (
            "It looks at the board without end, though all has long been whole: does it return once it has copied, or when nothing is new?")
        found = np.int64(self.version) if key == "version" else self.memory[key]
        self.looked.append(key)
        self.turn()
        return found

    def __setitem__(self, key, value):
        raise AssertionError(f"It wrote {key!r} on the board: only the learner does; many read it.")

    def copy(self) -> dict:
        """The whole record, copied at once."""
        self["newest"]
        return {"version": np.int64(self.version), **{name: memory.copy() for name, memory in self.memory.items()}}

    __copy__ = copy

    def __deepcopy__(self, memo):
        return self.copy()


def vector(network) -> np.ndarray:
    return np.concatenate([tensor.detach().numpy().ravel().copy() for tensor in network.parameters()])


def receive(student, write="", after=0, name="newest", version=-1):
    """(version returned, network after it, board, naps) of the student's receive; a network left alone is None."""
    network = torch.nn.Sequential(torch.nn.Linear(2, 3), torch.nn.LayerNorm(3), torch.nn.Linear(3, 1))
    before, kinds = vector(network), [(tensor.shape, tensor.dtype) for tensor in network.parameters()]
    board, sleep, naps = Board(len(before), write, after), time.sleep, []

    def nap(seconds):
        naps.append(seconds)
        assert 0 < seconds <= 0.05, f"It slept for {seconds} seconds; a millisecond is 0.001."
        assert len(naps) < 1000, "It waits for ever: ask the board for its version anew in each round, and return once the copy is whole."

    try:
        time.sleep = nap
        found = student.receive(board, name, network, version)
    finally:
        time.sleep = sleep
    assert found is not None, NONE
    assert not isinstance(found, (tuple, list)), "It returned several things; the version alone is meant."
    assert [(tensor.shape, tensor.dtype) for tensor in network.parameters()] == kinds, (
        "The network's parameters have other shapes or another type now: then it cannot be used.")
    return int(found), None if np.array_equal(vector(network), before) else network, board, naps


def story(board: Board) -> str:
    """Of a write that left half of it in the network: what the reader did before it, and what it should do."""
    before = board.looked[:board.after]
    if board.after == 0:
        return "The version was odd: half of the network was new, half was old, and both were taken."
    if before[-1] != "version":
        if "version" not in board.looked[board.after:]:
            return "The learner began to write during the copy: half of what was taken is new. Look at the version once more, after the copy."
        if board.write == "whole":
            return ("The learner wrote a whole network during the copy: the version is even before and after it, but another one. Half of what "
                    "was taken is new.")
        return "The learner began to write during the copy, the version was odd after it, and half of what was taken is new."
    if set(before) > {"version"}:
        return ("The learner began to write right after the check, and the network got half of it: copy first, then check, then use the copy. "
                "(An array that board[name] gives is no copy, but the board's own memory. And one check is for the whole network.)")
    return ("The learner began to write right after a look at the version, before the copy: half of what was taken is new. Two looks, one before "
            "the copy and one after it, must find the same even number.")


def check(student, write: str, after: int) -> Board:
    """Asserts that the network holds one version, whole, and that this version was returned."""
    found, network, board, _ = receive(student, write, after)
    assert network is not None, (
        "It gave up while the learner wrote, and left the network as it was: an actor's first network would be a random one. Try again.")
    whole = [version for version in (OLD, NEW) if np.array_equal(vector(network), board.content("newest", version))]
    assert whole, story(board)
    assert whole == [found], f"The network is that of version {whole[0]}, and {found} was returned."
    return board


def test_newest(student):
    """2 points: a newer network is copied, parameter by parameter, and its version returned."""
    for known in (-1, OLD - 6):
        found, network, board, _ = receive(student, version=known)
        assert network is not None, f"With {known} as the version known, and {OLD} on the board, it copied nothing."
        right, came = board.content("newest", OLD), vector(network)
        assert not np.array_equal(came, board.content("average", OLD)), 'Asked for "newest", it copied "average".'
        assert np.array_equal(came, right), (
            f"The network's parameters, in the order of network.parameters(), are then {came[:8]} ...; {right[:8]} ... is right.")
        assert found == OLD, f"It returned {found}; {OLD}, the version on the board, is right: the caller gives it back the next time."


def test_name(student):
    """1 point: the board has two networks, and the one that is asked for comes."""
    _, network, board, _ = receive(student, name="average")
    assert network is not None and np.array_equal(vector(network), board.content("average", OLD)), (
        'Asked for "average", it copied another network: see `name`.')


def test_nothing_new(student):
    """1 point: where the version is known already, nothing is copied, and nothing waited for."""
    found, network, _, naps = receive(student, version=OLD)
    assert found == OLD, f"It returned {found}, though the version was {OLD} before, and still is."
    assert network is None, "It copied a version that it had already: a network may be large, and most blocks find nothing new."
    assert not naps, "It slept, though there was nothing to wait for."


def test_odd(student):
    """2 points: while the version is odd, the learner writes: the reader waits, and sleeps meanwhile."""
    check(student, "lasting", 0)
    *_, naps = receive(student, "lasting")
    assert naps, "It waits without a pause, and takes a core from those who work: sleep a millisecond."


def test_torn(student):
    """2 points: a write that begins, or passes as a whole, during the copy is noticed after it."""
    looked = check(student, "", 0).looked
    for after in [i + 1 for i, key in enumerate(looked) if key != "version"]:
        check(student, "lasting", after)
        check(student, "whole", after)


def test_copy(student):
    """2 points: wherever a write begins, what was copied and then checked is what the network gets, and keeps."""
    for after in range(1, 13):
        check(student, "lasting", after)
        check(student, "whole", after)
    _, network, board, _ = receive(student)
    held = vector(network)
    board.fill(0)
    receive(student, "lasting")
    assert np.array_equal(vector(network), held), (
        "The network changed later, when the learner wrote again or another network was received: it needs memory of its own.")
