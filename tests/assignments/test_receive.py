"""receive(board, name, network, version) -> version: copies a network that another process may be writing meanwhile."""

import time

import numpy as np
import torch
from common import numbers

OLD, NEW = 4, 6  # versions: the one on the board, and that of the next publication


class Board:
    """The learner's board, on which a writer works between the reader's looks; what it does, and when, is fixed.

    waits: how many looks at the version find it odd, from `odd` on. "at the start": a write is under way when the reader comes;
    "in the copy": it begins as the reader copies; "whole": it begins and ends then; "after the check": it begins
    once the version was found unchanged.
    """

    def __init__(self, size: int, write: str = "", waits: int = 3):
        self.size, self.write, self.waits, self.offset = size, write, waits, int(numbers().integers(9))
        self.version, self.copied, self.looks = OLD, False, 0
        self.memory = {name: self.content(name, OLD) for name in ("newest", "average")}
        if write == "at the start":
            self.begin()

    def content(self, name: str, version: int) -> np.ndarray:
        """What a version of a network holds: each parameter another number."""
        return np.arange(self.size, dtype=np.float32) + 100 * version + 50 * (name == "average") + self.offset

    def fill(self, half: bool) -> None:
        for name, memory in self.memory.items():
            memory[self.size // 2 if half else 0:] = self.content(name, NEW)[self.size // 2 if half else 0:]

    def begin(self) -> None:
        self.fill(half=True)
        self.version, self.write = OLD + 1, "goes on"

    def __getitem__(self, key):
        if key != "version":
            self.copied = True
            if self.write == "in the copy":
                self.begin()
            elif self.write == "whole":
                self.fill(half=True)
                self.version, self.write = NEW, "ends"
            return self.memory[key]
        self.looks += 1
        assert self.looks < 1000, "It asks for the version without end, and does not take a network that is whole."
        if self.write == "ends" or self.write == "goes on" and self.looks > self.waits:
            self.fill(half=False)
            self.version, self.write = NEW, ""
        found = np.int64(self.version)
        if self.write == "after the check" and self.copied:
            self.begin()
        return found

    def __setitem__(self, key, value):
        raise AssertionError(f"It wrote {key!r} on the board: only the learner does; many read it.")

    def copy(self):
        raise AssertionError("It copied the whole board at once: the order matters. The version first, then the network, then the version again.")


def vector(network) -> np.ndarray:
    return np.concatenate([tensor.detach().numpy().ravel() for tensor in network.parameters()])


def receive(student, write="", name="newest", version=-1):
    """What the student's receive returned, the network's parameters after it, and the board."""
    network = torch.nn.Sequential(torch.nn.Linear(2, 3), torch.nn.LayerNorm(3), torch.nn.Linear(3, 1))
    board, sleep, naps = Board(len(vector(network)), write), time.sleep, []

    def nap(seconds):
        naps.append(seconds)
        assert len(naps) < 1000, "It waits for ever: ask the board for its version anew in each round."

    try:
        time.sleep = nap
        found = student.receive(board, name, network, version)
    finally:
        time.sleep = sleep
    assert found is not None, "It returned None: the version that the network then has is meant."
    return int(found), network, board


def check(student, write: str, torn: str, gave_up: str) -> None:
    """Asserts that the network holds one version, whole, and that this version was returned."""
    found, network, board = receive(student, write)
    assert found != -1, gave_up
    whole = [version for version in (OLD, NEW) if np.array_equal(vector(network), board.content("newest", version))]
    assert whole, torn
    assert whole == [found], f"The network is that of version {whole[0]}, and {found} was returned."


def test_newest(student):
    """2 points: a newer network is copied, parameter by parameter, and its version returned."""
    found, network, board = receive(student)
    assert found == OLD, f"It returned {found}; {OLD}, the version on the board, is right: the caller gives it back the next time."
    right, came = board.content("newest", OLD), vector(network)
    assert not np.array_equal(came, board.content("average", OLD)), 'Asked for "newest", it copied "average".'
    assert np.array_equal(came, right), (
        f"The network's parameters, in the order of network.parameters(), are then {came[:8]} ...; {right[:8]} ... is right.")


def test_name(student):
    """1 point: the board has two networks, and the one that is asked for comes."""
    found, network, board = receive(student, name="average")
    assert np.array_equal(vector(network), board.content("average", OLD)), 'Asked for "average", it copied another network: see `name`.'


def test_nothing_new(student):
    """1 point: where the version is known already, nothing is copied, and nothing waited for."""
    found, network, board = receive(student, version=OLD)
    assert found == OLD, f"It returned {found}, though the version was {OLD} before, and still is."
    assert not np.array_equal(vector(network), board.content("newest", OLD)), (
        "It copied a version that it had already: a network may be large, and most blocks find nothing new.")


def test_odd(student):
    """2 points: while the version is odd, the learner writes: the reader waits."""
    check(student, "at the start", "The version was odd: half of the network was new, half was old, and both were taken.",
          "It gave up while the learner wrote, and left the network as it was: an actor's first network would be a random one. Wait.")


def test_torn(student):
    """2 points: a write that begins, or passes as a whole, during the copy is noticed after it."""
    check(student, "in the copy", "The learner began to write during the copy: half of what was taken is new, half is old. Ask for "
          "the version once more, after the copy.", "It gave up when the copy was spoilt: try again.")
    check(student, "whole", "The learner wrote a whole network during the copy: the version is even before and after it, but another "
          "one. Half of what was taken is new, half is old.", "It gave up when the copy was spoilt: try again.")


def test_copy(student):
    """2 points: what was copied and then checked is what the network gets, and keeps."""
    check(student, "after the check", "The learner began to write right after the check, and the network got half of it: copy first, then "
          "check, then use the copy. (An array that board[name] gives is no copy, but the board's own memory.)",
          "It gave up, though the copy was whole.")
