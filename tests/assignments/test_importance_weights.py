"""importance_weights(priorities (n, B), beta) -> (n, B): (N P(i))^-beta, each batch's largest scaled to 1."""

import numpy as np
from common import NONE, expect, numbers


def mistakes(p: np.ndarray, beta: float) -> dict:
    share = p / p.sum(axis=-1, keepdims=True)
    weights = p**-beta
    return {
        "The exponent is -beta: a transition that is sampled too often must count less.":
            (p / p.max(axis=-1, keepdims=True)) ** beta,
        "These are not normalised: divide by the largest weight of each batch.": weights,
        "These are not normalised: (N P)^-beta still has to be divided by each batch's largest.":
            (p.shape[-1] * share) ** -beta,
        "These are not normalised: P^-beta still has to be divided by each batch's largest.": share**-beta,
        "The largest weight belongs to the smallest priority; this divides by the smallest weight.":
            (p / p.max(axis=-1, keepdims=True)) ** -beta,
        "This divides by the largest of all batches; each batch, a row, has its own.": weights / weights.max(),
        "This divides by the largest in each column; a batch is a row.": weights / weights.max(axis=0),
        "This makes each row's sum 1; its largest is meant to be 1.": weights / weights.sum(-1, keepdims=True),
        "This makes each row's mean 1; its largest is meant to be 1.": weights / weights.mean(-1, keepdims=True),
        "beta is not used; this is the full correction, beta = 1.": p.min(axis=-1, keepdims=True) / p,
        "The exponent is -beta, not -(1 - beta).": (p / p.min(axis=-1, keepdims=True)) ** -(1 - beta),
        "p is to the power of alpha already; this raises it once more.": (p / p.min(axis=-1, keepdims=True)) ** (-0.6 * beta),
        "This is 1 - weight.": 1 - (p / p.min(axis=-1, keepdims=True)) ** -beta,
    }


def example():
    rng = numbers()
    p = np.round(rng.uniform(0.5, 5.0, (2, 3)), 1)
    p[1] += p[0].min()  # another least priority than the first row's
    return p, float(rng.choice([0.3, 0.4, 0.7]))


def right(p, beta):
    """By a loop."""
    return np.array([[(value / min(row)) ** -beta for value in row] for row in p])


def test_shape(student):
    """1 point: a weight for each priority, in an array of numpy."""
    p, beta = example()
    answer = student.importance_weights(p.copy(), beta)
    assert answer is not None, NONE
    assert isinstance(answer, np.ndarray), f"An array of numpy is meant; it returned a {type(answer).__name__}."
    assert np.shape(answer) == (2, 3), f"Of (2, 3) priorities, weights of the shape {np.shape(answer)} came."


def test_one_batch(student):
    """2 points: a batch of three."""
    p, beta = example()
    expect(student.importance_weights(p[:1].copy(), beta), right(p[:1], beta),
           f"importance_weights({p[:1].tolist()}, {beta})", mistakes(p[:1], beta))


def test_two_batches(student):
    """2 points: two batches, each with its own largest weight."""
    p, beta = example()
    expect(student.importance_weights(p.copy(), beta), right(p, beta),
           f"importance_weights({p.tolist()}, {beta})", mistakes(p, beta))


def test_uncorrected(student):
    """1 point: beta = 0 corrects nothing."""
    p, _ = example()
    expect(student.importance_weights(p.copy(), 0.0), np.ones((2, 3)), f"importance_weights({p.tolist()}, 0.0)")


def test_no_batches(student):
    """1 point: the learner may have to wait; then there are no batches, an array (0, B)."""
    answer = student.importance_weights(np.zeros((0, 3)), 0.4)
    assert answer is not None, NONE
    assert np.shape(answer) == (0, 3), f"Of (0, 3) priorities, weights of the shape {np.shape(answer)} came."


def test_input_stays(student):
    """1 point: the priorities that it was given stay as they are."""
    p, beta = example()
    assert student.importance_weights(given := p.copy(), beta) is not None, NONE
    assert np.array_equal(p, given), "It changed the priorities that it was given: write to a new array."
