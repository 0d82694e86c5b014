"""first_priorities(network, states, actions, returns, discounts, k): abs(TD error) of an actor's block."""

import numpy as np
import torch
from common import NONE, expect, numbers, unchanged

K = np.array([2, 1, 2, 2])  # the second window is short, since the game was truncated; the third one terminates


class Net(torch.nn.Module):
    """A function as a network, with a parameter, so that one may ask for its device."""

    def __init__(self, function):
        super().__init__()
        self.function, self.weight = function, torch.nn.Parameter(torch.ones(()))

    def forward(self, *inputs):
        return self.function(*inputs)


def example():
    """Six states in a row, numbered 0 to 5; four transitions start at the first four."""
    rng = numbers()
    q = np.round(rng.uniform(-3, 3, (6, 3)), 1)
    actions = np.argsort(q[:4], 1)[:, 1]  # neither the best action nor the worst
    returns = rng.integers(20, 30, 4) * np.array([1.0, -1.0, 1.0, 1.0])
    discounts = np.array([0.81, 0.9, 0.0, 0.81])
    return q, actions, returns, discounts


def call(student, network, states, actions, returns, discounts):
    given = {"states": states, "actions": actions, "returns": returns, "discounts": discounts, "k": K}
    given = {name: array.copy() for name, array in given.items()}  # what is right is computed from the others
    with unchanged(**given):
        return student.first_priorities(network, *given.values())


def dqn(student):
    q, actions, returns, discounts = example()
    states = np.arange(6)[:, None].astype(np.float32)
    network = Net(lambda s: torch.tensor(q, dtype=torch.float32)[s[:, 0].long()])
    answer = call(student, network, states, actions, returns, discounts)
    t = np.arange(4)
    taken, following = q[t, actions], q[t + K]
    later = np.minimum(t + K, 3)
    own = {"The q-value of the action that was taken is meant, not the best one's.": (following.max(1), q[:4].max(1)),
           "In the next state the best action counts, not the one that was taken there.":
               (q[t + K, actions[later]], taken),
           "states[t + k] is meant, not states[k]: k counts from t on.": (q[K].max(1), taken),
           "Each row has its own best value: take the maximum over the actions, not over all.":
               (following.max() * np.ones(4), taken),
           "t + k reaches beyond the m transitions: the states go on there.": (q[later].max(1), taken),
           "In the next state the best action counts, not the number of the one taken here.":
               (following[t, actions], taken),
           "The network got other states than these (it divides by 255 itself).": (q[0].max() * np.ones(4), q[0, actions])}
    return answer, returns, discounts, taken, following.max(1), q[t + 1].max(1), q[t + 2].max(1), own, "q = table"


def ddpg(student):
    rng = numbers()
    states, a = rng.permutation(9)[:6, None, None].astype(np.float32), rng.integers(1, 5, (4, 1)).astype(np.float32)
    _, _, returns, discounts = example()
    online = Net(None)
    online.actor, online.critic = Net(lambda s: 2 * s.flatten(1)), Net(lambda s, a: (s.flatten(1) - 3 * a.float())[:, 0])
    answer = call(student, online, states, a, returns, discounts)
    s, t = states[:, 0, 0], np.arange(4)
    taken, best = s[:4] - 3 * a[:, 0], s - 6 * s
    own = {"The q-value of the action that was taken is meant, not the actor's now.": (best[t + K], best[:4]),
           "t + k reaches beyond the m transitions: the states go on there.": (best[np.minimum(t + K, 3)], taken),
           "states[t + k] is meant, not states[k]: k counts from t on.": (best[K], taken),
           "In the next state the actor's action counts, not the one taken here.": (s[t + K] - 3 * a[:, 0], taken)}
    return answer, returns, discounts, taken, best[t + K], best[t + 1], best[t + 2], own, "pi(s) = 2 s, q = s - 3 a"


def outcome(student):
    answer, G, d, taken, following, after_one, after_n, own, what = (
        dqn if hasattr(student, "QNetwork") else ddpg)(student)
    error = G + d * following - taken
    wrong = {
        "A priority is no signed number: the absolute value is meant.": error,
        "A priority is no signed number: the absolute value of the TD error is meant.": -error,
        "This is the squared TD error; the absolute value is meant.": error**2,
        "The state k steps later is meant; this takes the next one.": abs(G + d * after_one - taken),
        "Each window has its own k; this takes n for all of them.": abs(G + d * after_n - taken),
        "The discounts are not used: a window that terminates would bootstrap.": abs(G + following - taken),
        "The value of the state k steps later is missing.": abs(G - taken),
        "discounts holds gamma^k already.": abs(G + d**K * following - taken),
        "discounts holds gamma^k, and 0 at a termination; this is 0.99^k.": abs(G + 0.99**K * following - taken),
        "These are raised to alpha already; the replay does that.": abs(error) ** 0.6,
        "All priorities are 1; the point is that an actor knows better.": np.ones(4),
        "q(s_t, a_t) is missing: a priority is an error, not a target.": abs(G + d * following),
        **{sentence: abs(G + d * value - minus) for sentence, (value, minus) in own.items()}}
    return answer, abs(error), wrong, what


def test_shape(student):
    """1 point: a priority for each transition, none for the states after the last."""
    answer, right, _, _ = outcome(student)
    assert answer is not None, NONE
    assert np.shape(answer) == (4,), (
        f"Of four transitions (and the two states after them), the shape {np.shape(answer)} came; (4,) is meant.")


def test_values(student):
    """4 points: four transitions; the second window has one step only, the third one terminates."""
    answer, right, wrong, what = outcome(student)
    expect(answer, right, f"The priorities of four transitions with k = {K.tolist()}", wrong)


def test_array(student):
    """1 point: an array of numpy: it travels to another process."""
    answer = outcome(student)[0]
    assert isinstance(answer, np.ndarray), f"{type(answer).__name__} came, where an array of numpy is meant."
