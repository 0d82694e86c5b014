"""Two arms, seed by seed, from their curves in benchmark/results/:

    python benchmark/compare.py reacher_ca2e_second reacher_no_prior8_second --levels=-6,-5 --start 10000

A level is reached in two consecutive evaluations. Each mean is that of the curve, straight between its evaluations,
from --start to the last step that all the runs have, or --end. p: of an exact permutation test of the means. The ratio:
median steps in which the first arm reaches the second's best in two consecutive evaluations (their median), over the
median steps of these bests; with its 95 % interval, from runs drawn again and again (bootstrap), and how often a ratio
as small comes up where the runs are shuffled among the arms. The twenty episodes at a run's end are left out. An arm
may be several sets of runs, with a comma between; --over-seeds then tests the means of each seed's runs, and draws
seeds, then runs of each, since two runs of one seed are not two seeds. (The medians weigh runs alike, the means seeds.)
"""

import csv
import sys
from pathlib import Path

import numpy as np
import tyro

RESULTS = Path(__file__).parent / "results"
sys.path.insert(0, str(RESULTS.parents[1] / "tests" / "assignments"))
from experiment import permutation_p  # noqa: E402


def files(arm: str) -> list[Path]:
    """An arm's runs, NAME_s1.csv and so on, ordered by name, then by seed."""
    found = [(name, path.stem.removeprefix(f"{name}_s"), path) for name in arm.split(",") for path in RESULTS.glob(f"{name}_s*.csv")]
    return [path for *_, path in sorted((name, int(seed), path) for name, seed, path in found if seed.isdigit())]


def curves(arm: str) -> list[np.ndarray]:
    """Of each run: (2, evaluations), steps and greedy returns."""
    found = []
    for path in files(arm):
        with open(path, newline="") as file:
            rows = list(csv.DictReader(file))
        if not rows[-1]["greedy_std"] or rows[-1]["step"] == rows[-2]["step"]:
            rows.pop()  # the twenty episodes at the end
        found.append(np.array([[float(row["step"]), float(row["greedy_mean"])] for row in rows]).T)
    return found


def reached(curve: np.ndarray, level: float) -> float:
    """The first step of two consecutive evaluations at level or more; infinite: never."""
    both = np.minimum(curve[1, :-1], curve[1, 1:]) >= level
    return curve[0, both.argmax()] if both.any() else np.inf


def best(curve: np.ndarray) -> tuple[float, float]:
    """The highest level that two consecutive evaluations reach; the first one's step."""
    both = np.minimum(curve[1, :-1], curve[1, 1:])
    return both.max(), curve[0, both.argmax()]


def mean(curve: np.ndarray, start: float, end: float) -> float:
    return float(np.interp(np.linspace(start, end, 1001), *curve).mean())


def to_best(ones: list, others: list) -> tuple[float, float, float]:
    """The others' best level, and the steps to it of the ones, and of the others to their own: medians."""
    level, step = np.median([best(curve) for curve in others], 0)
    return level, np.median([reached(curve, level) for curve in ones]), step


def shuffled_ratios(ones: list, others: list) -> np.ndarray:
    """(2000,) ratios of these steps, the runs shuffled among both arms: what chance alone gives."""
    pool, rng, found = [*ones, *others], np.random.default_rng(0), []
    for _ in range(2000):
        order = [pool[i] for i in rng.permutation(len(pool))]
        _, one, other = to_best(order[:len(ones)], order[len(ones):])
        found.append(one / other)
    return np.array(found)


def groups(arm: str, by_seed: bool) -> list[list[int]]:
    """The runs that are tested, and drawn, as one: each by itself, or those of each seed."""
    keys = [int(path.stem.rsplit("_s")[-1]) if by_seed else i for i, path in enumerate(files(arm))]
    return [[i for i, one in enumerate(keys) if one == key] for key in sorted(set(keys))]


def drawn(units: list, rng: np.random.Generator) -> list:
    """As many of the units, drawn again, and of each, if it has several, as many of its runs: all these runs."""
    chosen = [units[i] for i in rng.integers(len(units), size=len(units))]
    return sum(([unit[i] for i in rng.integers(len(unit), size=len(unit))] if unit[1:] else unit for unit in chosen), [])


def compare(arm: str, other: str, levels: list[float], start: float, end: float = np.inf, by_seed: bool = False) -> dict:
    """The figures of both, over the steps that all have."""
    arms = [curves(arm), curves(other)]
    if not all(arms):
        sys.exit(f"error: of {arm} or {other} there are no runs, {RESULTS.name}/NAME_s1.csv and so on")
    start, end = max(start, *(curve[0, 0] for curve in sum(arms, []))), min(end, *(curve[0, -1] for curve in sum(arms, [])))
    late = np.median(np.diff(arms[0][0][0])) / 2  # half the spacing of evaluations
    arms = [[curve[:, curve[0] <= end + late] for curve in found] for found in arms]
    units = [[[found[i] for i in group] for group in groups(name, by_seed)] for name, found in zip((arm, other), arms)]
    means = [[float(np.mean([mean(curve, start, end) for curve in unit])) for unit in each] for each in units]
    level, one, other = to_best(*arms)
    return {"start": start, "end": end, "means": means, "p": permutation_p(*means),
            "best": (level, one, other), "ratio": one / other, "arms": arms, "units": units,
            "reached": [[[reached(curve, level) for curve in found] for level in levels] for found in arms]}


def interval(units: list) -> np.ndarray:
    """The ratio's 95 % interval: both arms' units drawn again, 2,000 times."""
    rng = np.random.default_rng(0)
    _, ones, others = np.transpose([to_best(*(drawn(each, rng) for each in units)) for _ in range(2000)])
    return np.quantile(ones / others, (0.025, 0.975), method="nearest")


def main(arm: tyro.conf.Positional[str], other: tyro.conf.Positional[str], levels: str = "", start: float = 0,
         end: float = np.inf, over_seeds: bool = False) -> None:
    """Two arms, as in pong_ca2e pong_no_prior; levels: with a comma between; over_seeds: the means of each seed's runs."""
    levels = [float(level) for level in levels.split(",") if level]
    found = compare(arm, other, levels, start, end, over_seeds)
    print(f"from {found['start']:,.0f} to {found['end']:,.0f} steps")
    for name, means, steps in zip((arm, other), found["means"], found["reached"]):
        print(f"{name}: means {'; '.join(f'{value:,.2f}' for value in means)}")
        for level, each in zip(levels, steps):
            print(f"    {level:,g} reached at {'; '.join(f'{step:,.0f}' for step in each)}; median {np.median(each):,.0f}")
    (level, one, other), (low, high) = found["best"], interval(found["units"])
    print(f"p {found['p']:.3f}; the second's best, {level:,.5g}, at {one:,.0f} and {other:,.0f}: ratio {found['ratio']:.2f} "
          f"({low:.2f} to {high:.2f})")
    chance = shuffled_ratios(*found["arms"])
    print(f"runs shuffled: a ratio as small in {np.mean(chance <= found['ratio'] + 1e-9):.1%}, never there in {np.mean(np.isinf(chance)):.0%}")


if __name__ == "__main__":
    tyro.cli(main)
