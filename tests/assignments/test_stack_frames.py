"""stack_frames within gather: the states of Atari, put together from single frames in the store."""

from types import SimpleNamespace

import numpy as np
from common import NONE, expect, numbers, same, unchanged

RING, ACTORS, K = 12, 3, 2
FIELDS = [("count", int), ("action", int), ("return", np.float32), ("k", np.int32), ("discount", np.float32),
          ("episode_step", np.int32), ("frame", np.uint8, (1, 1))]
ARGS = SimpleNamespace(ring_size=RING, num_actors=ACTORS, capacity=RING * ACTORS, buffer_size=RING * ACTORS, n_step=K)
STEPS = [0, 1, 2, 3, 4, 5, 0, 0, 1, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9] * 3  # of actor 1's records: games of 6, 1, 2, 10 steps


def step_of(actor: int, count: int) -> int:
    """The step of its game that an actor's record is; each actor's games begin at other counts."""
    return STEPS[count + 2 * actor - 2 + len(STEPS) // 3]


def pixel(actor: int, count: int) -> int:
    return 80 * actor + count + int(numbers().integers(1, 20))


def make_store(first: int):
    """Each actor's newest RING records, from its count `first` on; a frame, (1, 1), tells whose it is."""
    store = np.zeros(RING * ACTORS, FIELDS)
    for actor in range(ACTORS):
        for count in range(first, first + RING):
            record = store[actor * RING + count % RING]
            record["count"], record["episode_step"], record["k"] = count, step_of(actor, count), K
            record["frame"] = pixel(actor, count)
    return store


def stack(store, actor: int, count: int, mistake: str = ""):
    """The right state of an actor's count, (4,), by a loop; or what a known mistake makes of it."""
    step, stacked = step_of(0 if mistake in ("all of actor 0", "step of actor 0") else actor, count), []
    for back in (3, 2, 1, 0):
        last = {"no zeros": 9, "more": step - 1, "less": step + 1, "repeat": 9, "earlier": step - 1}.get(mistake, step)  # back to here
        if mistake == "whole" and step < 3:
            last = -1
        shift = {"future": back - 3, "early": back + 1, "earlier": back + 1, "newest": 0, "repeat": min(back, step), "these slots": back + K}.get(mistake, back)
        slot = (0 if mistake in ("actor 0", "all of actor 0") else actor * RING) + (count - shift) % RING
        shows = {"guess": store["episode_step"][slot] <= step, "own steps": back <= store["episode_step"][slot],
                 "slots": back <= step_of(actor, count - K)}.get(mistake, back <= last)
        stacked.append(int(store["frame"][slot, 0, 0]) if shows else 0)
    return stacked[::-1] if mistake == "reversed" else stacked


WHICH_STEP = ("Is the episode_step that of this actor's record `count`, in the slot ring + count % args.ring_size? It is not that "
              "of actor 0, nor each frame's own, nor, where gather asks for the next states, that of `slots`.")
MISTAKES = {
    "no zeros": "The frames before a game's first belong to the game before: they must be zeros.",
    "more": "One zero too many: a game's step t has t + 1 frames of its own.",
    "less": "One zero too few: the last frame of the game before is in the stack.",
    "whole": "Only the missing frames are zeros, not the whole state.",
    "repeat": "The game's first frame is repeated; there are zeros before it.",
    "reversed": "The order is reversed: the newest frame comes last.",
    "early": "These are the frames t-4 to t-1; t-3 to t are meant.",
    "earlier": "These are the frames t-4 to t-1, one step too early; t-3 to t are meant.",
    "future": "These are the frames t to t+3; t-3 to t are meant.",
    "these slots": "These are the frames of `slots`, where gather asks for the next states: `counts` says which are meant.",
    "newest": "All four are the newest frame; frames t-3 to t are meant.",
    "all of actor 0": "This is a record of actor 0: add `ring`, the first slot of the actor's own.",
    "guess": "The frames' own steps do not tell where the game began (the game before may be short): this record's do.",
    "actor 0": "These are frames of actor 0: add `ring`, the first slot of the actor's own.",
    **dict.fromkeys(("step of actor 0", "own steps", "slots"), WHICH_STEP),
}


def gather(student, store, slots, counts):
    with unchanged(counts=counts, slots=slots):
        return student.gather(store, slots, counts, np.ones(slots.shape, np.float32), ARGS)


def check(student, pairs, first: int = 0, hint: str = ""):
    """pairs: (actor, count), one batch; compares states and next states."""
    store = make_store(first)
    actors, counts = np.array(pairs).T
    batch = gather(student, store, actors * RING + counts % RING, counts)
    assert batch[0] is not None, NONE
    for name, states, later in (("state", batch[0], 0), ("next state", batch[4], K)):
        assert np.shape(states) == (len(pairs), 4, 1, 1), (
            f"stack_frames gave the shape {np.shape(states)}; (B, 4, height, width) is meant, here {(len(pairs), 4, 1, 1)}.")
        for i, (actor, count) in enumerate(pairs):
            count += later
            state = np.array(states)[i, :, 0, 0]
            hits = [text for mistake, text in MISTAKES.items() if same(state, stack(store, actor, count, mistake))]
            try:
                expect(state, stack(store, actor, count), f"the {name} of actor {actor}'s "
                       f"record {count}, step {step_of(actor, count)} of its game, (a frame is one pixel here: record c of actor "
                       f"a is 80 a + c + {pixel(0, 0)}; 0 is no record)", {hits[0]: state} if hits else {})
            except AssertionError as error:
                raise AssertionError(f"{error} {hint}") from None


def test_middle(student):
    """2 points: four frames of the same game, oldest first."""
    check(student, [(1, 3)])


def test_store_stays(student):
    """1 point: the zeros are in the copy; the store and the counts, which others read, stay as they are."""
    states = gather(student, store := make_store(0), np.array([RING + 7]), np.array([7]))[0]
    assert states is not None, NONE
    assert np.array_equal(store, make_store(0)), "It wrote into the store: copy the frames before you set zeros."
    gather(student, make_store(10), np.array([RING + 1]), np.array([13]))  # a count beyond the first lap


def test_first_steps(student):
    """3 points: a game's first steps have zeros where the game before was, however short that was."""
    check(student, [(1, 1), (1, 0), (1, 2)])
    check(student, [(1, 8)], hint="The games before had one step each: look at this record's own episode_step.")


def test_batch(student):
    """1 point: several transitions, of several actors, each in its own game."""
    check(student, [(0, 4), (2, 4), (1, 7)], hint="Each actor has its own ring, for episode_step as for frames.")


def test_wrap(student):
    """2 points: a ring is written again from its start on; record `count` lies at count % ring_size."""
    for pair in ((1, 13), (0, 13), (2, 18)):
        check(student, [pair], 10, f"The stack reaches over the end of actor {pair[0]}'s ring of {RING} slots: is each "
              "frame's place taken % ring_size, and within this actor's ring?")


def test_type(student):
    """1 point: a batch of another size; frames keep their type, uint8."""
    store, counts = make_store(0), np.array([4, 8, 7, 3, 5, 6])
    states = gather(student, store, RING + counts, counts)[0]
    assert np.shape(states) == (6, 4, 1, 1), f"counts (6,) gave the shape {np.shape(states)}."
    expect(np.array(states)[..., 0, 0], [stack(store, 1, count) for count in counts], "The states of counts (6,)")
    assert states.dtype == np.uint8, f"The frames came as {states.dtype}; they keep the store's type, uint8, which is small."
