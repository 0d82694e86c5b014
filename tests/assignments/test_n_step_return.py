"""n_step_return(rewards, terminations, gamma) -> (G_t, the discount of q(s_{t+k}), k)."""

import numpy as np
from common import NONE, expect, numbers, same


def check(student, rewards, ended: list[bool], gamma: float, right, wrong=({}, {}, {})):
    """Compares the three results one by one; wrong has the known mistakes of each."""
    call = f"n_step_return({rewards}, {ended}, {gamma})"
    answer = student.n_step_return(tuple(rewards), tuple(ended), gamma)  # tuples, as LocalBuffer.deliver has them
    assert answer is not None, NONE
    assert isinstance(answer, (tuple, list)) and len(answer) == 3, (
        f"{call} returned {answer!r}; it returns three numbers: G_t, the discount of q(s_t+k), and k.")
    total, discount, k = right
    assert not (same(answer[1], k) and same(answer[2], discount) and k != discount), (
        f"{call} returned {answer}: the order is G_t, the discount, k.")
    for name, value, expected, mistakes in zip(("G_t", "the discount", "k"), answer, right, wrong):
        expect(value, expected, f"{name} of {call}", mistakes)


def example(count: int = 3):
    rng = numbers()
    rewards = (rng.integers(1, 10, count) + 0.5) * np.where(np.arange(count) == 1, -1, 1)  # the second one is negative
    return [float(r) for r in rewards], float(rng.choice([0.5, 0.8, 0.9]))


def test_one_reward(student):
    """1 point: one step, and the game goes on."""
    (r,), gamma = example(1)
    check(student, [r], [False], gamma, (r, gamma, 1), ({"The first reward is not discounted.": gamma * r}, {
        "After k steps the next state's value counts gamma^k; this is gamma^0.": 1.0}, {}))


def test_full_window(student):
    """1 point: three steps, and the game goes on."""
    (a, b, c), g = example()
    check(student, [a, b, c], [False] * 3, g, (a + g * b + g**2 * c, g**3, 3), (
        {"These rewards are not discounted: R_{t+i+1} counts gamma^i.": a + b + c,
         "The first reward counts 1, the second gamma; these begin with gamma.": g * a + g**2 * b + g**3 * c,
         "This discounts the first reward most: the last one, farthest away, must count least.":
             g**2 * a + g * b + c,
         "Every later reward counts gamma here, where gamma^i is meant.": a + g * (b + c),
         "The last reward is missing.": a + g * b},
        {"This is gamma, where gamma^n is meant.": g,
         "This is gamma^(n-1): the state after n steps counts gamma^n.": g**2,
         "This is gamma^(n+1): the state after n steps counts gamma^n.": g**4,
         "It is 0 only where the window ends by a termination; here the game goes on.": 0.0}, {}))


def test_long_window(student):
    """1 point: n is a setting; here it is five."""
    rewards, g = example(5)
    check(student, rewards, [False] * 5, g, (sum(g**i * r for i, r in enumerate(rewards)), g**5, 5), (
        {"Only the first three rewards are used; n may be larger.": sum(g**i * r for i, r in enumerate(rewards[:3]))},
        {"This is gamma^3; the window has five steps.": g**3}, {"The window has five steps.": 3}))
    k = student.n_step_return(tuple(rewards), (False,) * 5, g)[2]
    assert np.asarray(k).dtype.kind in "iu", f"k is {k!r}; a whole number is meant: states are indexed by t + k."


def test_termination_within(student):
    """3 points: a life or game ends in the second of three steps."""
    (a, b, c), g = example()
    check(student, [a, b, c], [False, True, False], g, (a + g * b, 0.0, 2), (
        {"The rewards after a termination belong to the next game, or the next life.": a + g * b + g**2 * c,
         "The reward of the step that terminates counts, too.": a},
        {"Nothing follows a termination: this bootstraps there, with gamma^k.": g**2,
         "Nothing follows a termination: this bootstraps there, with gamma^n.": g**3},
        {"The window ends at the termination: k counts the steps up to it.": 3,
         "k counts the step that terminates, too.": 1}))
    hint = "A termination in the window's first step counts, too. (0, its index, is false in Python.)"
    check(student, [a, b, c], [True, False, False], g, (a, 0.0, 1), ({hint: a + g * b + g**2 * c}, {hint: g**3}, {hint: 3}))
    check(student, [a, b, c], [False, True, True], g, (a + g * b, 0.0, 2), (
        {"Where two steps terminate, the first one ends the window.": a + g * b + g**2 * c}, {},
        {"Where two steps terminate, the first one ends the window.": 3}))


def test_termination_at_the_end(student):
    """1 point: the game ends in the last step of the window."""
    (a, b, c), g = example()
    check(student, [a, b, c], [False, False, True], g, (a + g * b + g**2 * c, 0.0, 3), (
        {"The reward of the step that terminates counts, too.": a + g * b},
        {"A termination in the window's last step counts like any other: this bootstraps there.": g**3}, {}))
    check(student, [a], [True], g, (a, 0.0, 1), (
        {}, {"A window of one step that terminates: this bootstraps there.": g}, {}))


def test_no_step(student):
    """1 point: a window without a step, as a game's last state has one: nothing to add, nothing to discount."""
    check(student, [], [], 0.9, (0.0, 1.0, 0))


def test_truncation(student):
    """2 points: a window of two steps, because the game was cut off there (truncated), not terminated."""
    (a, b), g = example(2)
    check(student, [a, b], [False, False], g, (a + g * b, g**2, 2), (
        {}, {"This takes truncation for termination: a game that is cut off would have gone on, so it bootstraps.":
             0.0, "The window has two steps, not three: gamma^k is meant, with the k of this window.": g**3}, {
             "This window has fewer steps than n, and k counts the steps it has.": 3}))
