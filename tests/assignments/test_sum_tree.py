"""SumTree.find(values) -> slots: where the running sum of the priorities first exceeds each value."""

import numpy as np
from common import NONE, expect, numbers


def tree_of(student, priorities):
    tree = student.SumTree(len(priorities))
    tree.set(np.arange(len(priorities)), np.array(priorities, np.float64))
    return tree


def brute_force(priorities, values):
    """By running sums, from the left."""
    return [next(i for i in range(len(priorities)) if value < sum(priorities[:i + 1])) for value in values]


def check(student, priorities, values, wrong=None, hint=""):
    tree = tree_of(student, priorities)
    slots = tree.find(np.array(values, np.float64))
    right = brute_force(priorities, values)
    mistakes = {"These are node numbers: slot i is node leaves + i.": np.array(right) + tree.leaves,
                **({"These are no leaves: the walk stopped too early, or did not go from node i to 2i or 2i + 1.": slots}
                   if slots is not None and np.size(slots) and np.min(slots) < 0 else {}),
                "The running sum must exceed the value: one that equals a sum belongs to the next slot.":
                    [max(0, int(np.searchsorted(np.cumsum(priorities), value, side="left"))) for value in values],
                **(wrong or {})}
    try:
        expect(slots, right, f"find({list(values)}) among the priorities {list(priorities)}", mistakes)
    except AssertionError as error:
        raise AssertionError(f"{error} {hint}" if str(error).endswith("is right.") else str(error)) from None


def test_two(student):
    """1 point: two priorities, one level."""
    check(student, [3.0, 1.0], [0.5, 2.9, 3.1], hint="Below the left child's sum, go left.")


def test_four(student):
    """2 points: four priorities; what lies on the left is subtracted on the way to the right."""
    p = [float(x) for x in numbers().integers(1, 9, 4)]
    values = [p[0] + p[1] + p[2] / 2, p[0] + p[1] + p[2] + p[3] / 2, p[0] / 2, p[0] + p[1] / 2]
    unsubtracted = []
    for value in values:  # never subtracts
        right_half = value >= p[0] + p[1]
        unsubtracted.append(2 + (value >= p[2]) if right_half else int(value >= p[0]))
    check(student, p, values, {
        "On the way to the right, the left child's sum must be subtracted from the value.": unsubtracted},
        "On the way to the right, is the left child's sum subtracted, and nothing on the way to the left?")


def test_boundary(student):
    """1 point: slot i holds the values from the sum before it (included) to its own (excluded)."""
    check(student, [2.0, 1.0, 1.0, 4.0], [0.0, 2.0, 3.0, 4.0])
    check(student, [2.0**25, 1.0, 1.0, 1.0], [2.0**25 + 0.5, 2.0**25 + 1.5, 2.0**25 + 2.5],
          hint="The sums are large here: are the values rounded, to float32 perhaps?")


def test_many(student):
    """1 point: eleven priorities, a hundred values at once, against running sums; no values at all."""
    rng = numbers()
    p = np.round(rng.uniform(0.1, 2.0, 11), 3)
    values = rng.uniform(0, p.sum() * 0.999, 100)
    tree = tree_of(student, p)
    slots = tree.find(values.copy())
    assert slots is not None, NONE
    kind, slots = type(slots), np.asarray(slots)
    assert slots.shape == (100,), f"Of 100 values, slots of the shape {slots.shape} came."
    right = np.array(brute_force(p, values))
    bad = np.flatnonzero(slots != right)
    try:
        none = np.asarray(tree.find(np.zeros(0)))
    except IndexError:
        raise AssertionError("There may be no values, when the learner has to wait: this crashes then.") from None
    assert none.shape == (0,), f"Of no values, slots of the shape {none.shape} came."
    assert not bad.size, (f"{bad.size} of 100 values end in another slot than the running sums tell, such as "
                          f"{values[bad[0]]:.3f}: {slots[bad[0]]}, not {right[bad[0]]}.")
    assert kind is np.ndarray, f"Slots came as {kind.__name__}; an array is meant: the learner reshapes it."
    assert slots.dtype.kind == none.dtype.kind == "i", (
        f"The slots' type is {slots.dtype}, of no values {none.dtype}; whole numbers are meant, of no values, too, since the "
        "learner takes them for indices: np.array(slots, np.int64).")


def test_tree(student):
    """1 point: it walks down the inner nodes; a running sum of all leaves is what the tree saves."""
    tree = tree_of(student, [1.0, 1.0, 1.0, 1.0])
    tree.nodes[2], tree.nodes[1] = 3.0, 5.0  # no longer the sum of its children: a walk shows by where it ends
    slot = int(np.asarray(tree.find(np.array([2.5])))[0])
    assert slot == 1, (f"Where the left child of the root is set to 3 by hand, find([2.5]) is {slot}; a walk, from the root "
                       "to a leaf, goes left there and ends in slot 1. It must look at the inner nodes, not at all leaves.")


def test_empty_slots(student):
    """1 point: a slot of priority 0 is never found, not even when rounding makes a value equal the total."""
    check(student, [0.0, 2.0, 0.0, 1.0], [0.0, 1.9, 2.0, 2.9])
    for priorities in ([2.0, 1.0, 0.0, 0.0], [0.0, 3.0, 0.0, 0.0]):
        slot = int(np.asarray(tree_of(student, priorities).find(np.array([3.0])))[0])  # the sum of strata may round up to the total
        assert 0 <= slot < 4 and priorities[slot] > 0, (
            f"find([3.0]) among the priorities {priorities} is {slot}, an empty slot. By rounding a value may equal the total: "
            "never go into a branch whose sum is 0.")
    # of the largest value below this sum 2.3 * 2^30 are left on the right, by rounding
    tree = tree_of(student, np.array([1.3, 0.1, 2.3, 0.0]) * 2**30)
    slot = int(np.asarray(tree.find(np.array([np.nextafter(tree.nodes[1], 0)])))[0])
    assert slot == 2, (f"find of the largest value below the sum of [1.3, 0.1, 2.3, 0] * 2^30 is {slot}, an empty slot: inner sums are "
                       "rounded, too. To cut the value at the root is not enough: look at the right child's sum on the way.")


def test_values_stay(student):
    """1 point: the values that were given, and the tree, stay as they are."""
    values, tree = np.array([0.5, 3.5, 6.0]), tree_of(student, [3.0, 1.0, 2.5])
    before = tree.nodes.copy()
    assert tree.find(values) is not None, NONE
    assert np.array_equal(values, [0.5, 3.5, 6.0]), "It changed the values that it was given: copy them first."
    assert np.array_equal(tree.nodes, before), "It changed the tree's sums: a search only reads them."
