"""td_target of CA2E-DQN (double DQN), and of CA2E-DDPG; networks are small tables here."""

import numpy as np
import torch
from common import NONE, expect, numbers, same


class Table(torch.nn.Module):
    """A q-network whose states are row numbers of a table of q-values."""

    def __init__(self, values):
        super().__init__()
        self.values = torch.nn.Parameter(torch.tensor(values, dtype=torch.float32))

    def forward(self, states):
        return self.values[states[:, 0].long()]


def example():
    """Three transitions; the third one is terminal. Both networks name different best actions; the second row is negative."""
    rng = numbers()
    online, target = (np.array([rng.permutation(9).reshape(3, 3)[:, rng.permutation(3)] for _ in range(2)])
                      + np.round(rng.random((2, 3, 3)), 1))
    order = np.argsort(online, 1)
    for row in range(3):  # online's best action is not target's
        if target[row].argmax() == order[row, -1]:
            target[row, order[row, 0]] = target[row].max() + 2
    if online[0].argmax() == online[1].argmax():  # each row has its own best action
        online[1], target[1] = np.roll(online[1], 1), np.roll(target[1], 1)
    target[0] += 10  # in the first row the target's are larger, in the second the online network's
    online[1], target[1] = online[1] - 15, target[1] - 25  # all below 0, as most are in Pong
    returns, discounts = rng.integers(1, 9, 3).astype(float), np.array([0.5, 0.9, 0.0])
    return online, target, returns, discounts


def call_dqn(student, rows=slice(None)):
    online, target, returns, discounts = example()
    states = torch.arange(3)[rows, None]
    tensors = [torch.tensor(array[rows], dtype=torch.float32) for array in (returns, discounts)]
    answer = student.td_target(Table(online), Table(target), *tensors, states)
    return answer, online[rows], target[rows], returns[rows], discounts[rows]


def dqn(student, rows=slice(None)):
    answer, online, target, returns, discounts = call_dqn(student, rows)
    t = np.arange(len(returns))
    values = {  # of the next state, by the right way and the wrong ones
        "right": target[t, online.argmax(1)],
        "This is DQN, not double DQN: the online network must choose the action.": target.max(1),
        "The online network chooses the action; its value must come from the target network.": online.max(1),
        "The roles are swapped: the online network chooses, the target network values.":
            online[t, target.argmax(1)],
        "The action is the one with the largest q-value, not the smallest.": target[t, online.argmin(1)],
        "This is the mean over the actions; the best one is meant.": target.mean(1),
        "This is the smaller of both networks' best values, as in TD3; in double DQN one chooses, the other values.":
            np.minimum(online.max(1), target.max(1)),
        "A q-value may be below 0 (in Pong most are); this makes it 0.": np.maximum(target[t, online.argmax(1)], 0),
        "Each row has its own best action; this takes one for the whole batch.":
            target[t, np.full(len(t), online.argmax() % 3)],
    }
    best = values.pop("right")
    wrong = {sentence: returns + discounts * value for sentence, value in values.items()}
    wrong |= {"The discounts are not used: a terminal state would count.": returns + best,
              "Returns are not discounted again: only q(s_{t+n}, .) is.": discounts * (returns + best),
              "The next state's value is missing.": returns,
              "The returns are missing.": discounts * best,
              "discounts is no sign of the end: it is the factor itself, not 1 minus it.":
                  returns + (1 - discounts) * best,
              "This uses gamma = 0.99 for all; discounts holds gamma^n, and 0 at terminations.": returns + 0.99 * best,
              "discounts holds gamma^n and 0 at terminations; gamma once more is too much.":
                  returns + 0.99 * discounts * best}
    expect(answer, returns + discounts * best,
           f"td_target with q(s', .; theta) = {online.tolist()}, q(s', .; theta-) = {target.tolist()}, returns "
           f"{returns.tolist()}, discounts {discounts.tolist()}", wrong)


class Line(torch.nn.Module):
    """An actor, states -> factor * states; or a critic, q = states + factor * actions."""

    def __init__(self, factor):
        super().__init__()
        self.factor = torch.nn.Parameter(torch.tensor(float(factor)))

    def forward(self, states, actions=None):
        assert actions is None or (states.ndim, actions.ndim) == (3, 2), (
            "The critic takes states (B, 1, n) first, then actions (B, m).")
        states = states.flatten(1)
        return self.factor * states if actions is None else (states + self.factor * actions)[:, 0]


def call_ddpg(student, rows=slice(None)):
    rng = numbers()
    states, returns, discounts = rng.integers(1, 9, 3) * np.array([1, -1, 1]), rng.integers(1, 9, 3), np.array([0.5, 0.9, 0.0])
    f, g = 2.0 + rng.integers(3), 3.0 + rng.integers(3) / 2
    tensors = [torch.tensor(array[rows], dtype=torch.float32) for array in (returns, discounts, states[:, None, None])]
    return student.td_target(Line(f), Line(g), *tensors), states[rows], returns[rows], discounts[rows], f, g


def ddpg(student, rows=slice(None)):
    answer, states, returns, discounts, f, g = call_ddpg(student, rows)
    best = states + g * f * states
    wrong = {"The discounts are not used: a terminal state would count.": returns + best,
             "Returns are not discounted again: only q(s_{t+n}, .) is.": discounts * (returns + best),
             "The next state's value is missing.": returns,
             "The returns are missing.": discounts * best,
             "discounts holds gamma^n and 0 at terminations; gamma once more is too much.":
                 returns + 0.99 * discounts * best,
             "discounts is no sign of the end: it is the factor itself, not 1 minus it.":
                 returns + (1 - discounts) * best,
             "This uses gamma = 0.99 for all; discounts holds gamma^n, and 0 at terminations.": returns + 0.99 * best,
             "Each row has its own next value; this takes the batch's largest.": returns + discounts * best.max(),
             "The actor's action is cut here, as TD3 does it; its tanh keeps it in the bounds already.":
                 returns + discounts * (states + g * np.clip(f * states, -1, 1)),
             "A q-value may be below 0; this makes it 0.": returns + discounts * np.maximum(best, 0),
             "Minus is for the actor's loss; the target adds the next state's value.": returns - discounts * best,
             "The critic values the actor's action in the next state; here it values the state as an action.":
                 returns + discounts * (states + g * states)}
    expect(answer, returns + discounts * best, f"td_target with pi(s) = {f} s, q(s, a) = s + {g} a, next states "
           f"{states.tolist()}, returns {returns.tolist()}, discounts {discounts.tolist()}", wrong)


def grader_of(student):
    return dqn if hasattr(student, "QNetwork") else ddpg


def call(student):
    return (call_dqn if grader_of(student) is dqn else call_ddpg)(student)[0]


def test_shape(student):
    """1 point: a number for each of three transitions."""
    assert call(student) is not None, NONE
    shape = tuple(getattr(call(student), "shape", ()))
    column = "what gather returns" if grader_of(student) is dqn else "the (B, 1)"
    assert shape == (3,), (f"Of three transitions the shape {shape} came; (3,) is meant."
                           + f" (B,) with (B, 1) gives (B, B) by broadcasting: squeeze {column}." * (shape == (3, 3)))


def test_three_rows(student):
    """3 points: three transitions, of which the third one is terminal."""
    first, second = call(student), call(student)
    if same(first, first) and first.shape == second.shape and not same(first, second):
        raise AssertionError("Two calls gave different targets: there is noise in them (as TD3 has, but not DDPG).")
    grader_of(student)(student)


def test_terminal(student):
    """1 point: after a terminal state comes nothing: its target is its return."""
    grader_of(student)(student, slice(2, 3))


def test_no_gradient(student):
    """1 point: the target is a constant, no gradient flows through it."""
    answer = call(student)
    assert answer is not None, NONE
    assert not answer.requires_grad, (
        "The target carries a gradient; it is meant to be a constant. See torch.no_grad.")
