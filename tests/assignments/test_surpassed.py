"""surpassed(evaluations, rbar, ratio, patience) -> bool: has the learner surpassed this prior?"""

from common import NONE, numbers, unchanged


def threshold(rbar, ratio):
    return rbar + (ratio - 1) * abs(rbar)


def check(student, evaluations, rbar, ratio, patience, right: bool, reason: str):
    with unchanged(evaluations=(given := list(evaluations))):
        answer = student.surpassed(given, rbar, ratio, patience)
    assert answer is not None, NONE
    assert bool(answer) == right, (
        f"surpassed({[round(r, 2) for r in evaluations]}, {rbar}, {ratio}, {patience}) is {answer}, where {right} is "
        f"right. {reason}")


def example():
    rng = numbers()
    return float(rng.integers(50, 200)), float(rng.choice([1.05, 1.1, 1.2]))


def test_high_enough(student):
    """1 point: a positive rbar; the evaluations are far above it, far below, or none."""
    rbar, ratio = example()
    check(student, [3 * rbar] * 3, rbar, ratio, 3, True, "Three evaluations in a row are far above alpha rbar, and patience is 3.")
    check(student, [rbar / 3] * 9, rbar, ratio, 3, False, "All evaluations are far below rbar.")
    check(student, [], rbar, ratio, 3, False, "There is no evaluation yet: fewer than patience are never enough.")


def test_ratio(student):
    """1 point: where rbar is positive, the threshold is alpha times rbar, and reaching it is enough."""
    rbar, ratio = example()
    check(student, [rbar * (1 + ratio) / 2] * 5, rbar, ratio, 3, False,
          "These are above rbar, but below alpha rbar: is the ratio used?")
    check(student, [128.0] * 3, 64.0, 2.0, 3, True, "The rule is r >= alpha rbar: equal is enough.")


def test_patience(student):
    """2 points: "several times" is `patience` evaluations, no fewer and no more."""
    rbar, ratio = example()
    for patience in (1, 2, 4):
        check(student, [rbar / 9] + [1.3 * rbar] * (patience - 1), rbar, ratio, patience, False,
              f"Only {patience - 1} in a row are high enough: is patience used?")
        check(student, [1.3 * rbar] * patience, rbar, ratio, patience, True,
              f"The last {patience} are high enough; no more are needed.")


def test_in_a_row(student):
    """2 points: "several times" means in a row."""
    rbar, ratio = example()
    high, low = 2 * rbar, rbar / 2
    check(student, [high, low, high, low, high, low], rbar, ratio, 3, False,
          "Three are high enough in all, but not in a row: a low one begins the count anew.")
    check(student, [3.5 * rbar, 0.9 * rbar, 0.9 * rbar], rbar, 1.05, 3, False,
          "Their mean is high enough, but each of them must be.")
    check(student, [high, high, low, high, high], rbar, ratio, 3, False,
          "A low one begins the count anew, from 0: here no three in a row are high.")
    check(student, [0.9 * rbar] * 2 + [high], rbar, ratio, 3, False,
          "The newest or best one is high enough, but three in a row must be.")


def test_for_good(student):
    """2 points: a prior that has retired stays retired, whatever the learner does later."""
    rbar, ratio = example()
    check(student, [2 * rbar] * 3 + [rbar / 2] * 30, rbar, ratio, 3, True,
          "Three in a row were high enough, once: this looks only at the newest evaluations.")
    check(student, [rbar / 2] * 2 + [2 * rbar] * 3 + [rbar / 2] * 2, rbar, ratio, 3, True,
          "Three in a row were high enough, in the middle: look at every place of the list.")


def test_negative(student):
    """3 points: returns may be negative, as on Reacher, and then alpha rbar is below rbar (Deviation 1)."""
    rng = numbers()
    rbar, ratio = -float(rng.integers(4, 12)), 1.25
    check(student, [rbar * 1.1] * 4, rbar, ratio, 3, False,
          "These are worse than rbar. This is the literal alpha * rbar, which a negative rbar makes easier to reach; "
          "the learner must be better than rbar by (alpha - 1) abs(rbar).")
    check(student, [rbar * 0.9] * 4, rbar, ratio, 3, False,
          "These are better than rbar, but by less than (alpha - 1) abs(rbar).")
    check(student, [rbar * 0.78] * 4, rbar, ratio, 3, False,
          "These are better than rbar / alpha, which is not enough: better than rbar by (alpha - 1) abs(rbar) is meant.")
    check(student, [rbar * 0.7] * 3, rbar, ratio, 3, True,
          "These are better than rbar by more than (alpha - 1) abs(rbar): the prior must retire. (alpha * abs(rbar) would "
          "be above 0, which no one reaches.)")
    check(student, [1.0] * 3, rbar, ratio, 3, True, "Positive evaluations surpass any negative rbar.")
    check(student, [0.0] * 3, 0.0, ratio, 3, True, "With rbar = 0 the threshold is 0.")
