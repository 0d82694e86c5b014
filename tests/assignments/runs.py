"""What hunt.py and experiment.py share: edited copies of a script, run side by side, and their curves."""

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

from common import DDPG, ROOT

PENDULUM = ["--env-id", "InvertedPendulum-v5", "--sync", "--no-cuda", "--total-timesteps", "12000", "--learning-starts",
            "1000", "--tau", "0.01", "--eval-frequency", "1000", "--buffer-size", "12000"]


def edited(source: str, edits: list[tuple[str, str]]) -> str:
    """source with each old text, which must stand there once, replaced by the new one."""
    for old, new in edits:
        if source.count(old) != 1:
            sys.exit(f"error: {DDPG} has been edited: `{old.strip()}` stands there {source.count(old)} times, not once")
        source = source.replace(old, new)
    return source


def run(folder: Path, arms: dict[str, tuple[list, list]], seed: int, at_once: int = 2) -> None:
    """Runs each arm, (edits, flags), in folder/<its name>, so many at once; prints a dot every five seconds."""
    source = (ROOT / DDPG).read_text()
    waiting, running = [], {}
    for name, (edits, flags) in arms.items():
        place = folder / name
        shutil.rmtree(place, ignore_errors=True)
        place.mkdir(parents=True)
        # more points a curve; PyTorch's threads are one, so that a run is the same on every load
        (place / DDPG).write_text(edited(source, [("SAVE_SECONDS, LOG_SECONDS, KILLS_A_MINUTE = 2, 180, 10, 5",
                                                   "SAVE_SECONDS, LOG_SECONDS, KILLS_A_MINUTE = 2, 180, 2, 5"), *edits]))
        prior_dir = [] if "--prior-dir" in flags else ["--prior-dir", str(ROOT / "priors")]
        waiting.append((name, place, [sys.executable, DDPG, *flags, *prior_dir, "--seed", str(seed)]))
    try:
        while waiting or running:
            while waiting and len(running) < at_once:
                name, place, command = waiting.pop(0)
                with open(place / "output.txt", "w") as output:
                    running[name] = subprocess.Popen(command, cwd=place, stdout=output, stderr=subprocess.STDOUT,
                                                     env={**os.environ, "OMP_NUM_THREADS": "1"}), place
            for name, (process, place) in list(running.items()):
                if process.poll() is not None:
                    del running[name]
                    if process.returncode:
                        print(f"\n{name} failed: see {place / 'output.txt'}", flush=True)
            print(".", end="", flush=True)
            time.sleep(5)
    finally:
        for process, _ in running.values():
            process.terminate()
            process.wait()
    print()


def curves(place: Path) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Of the run in place: each metric's steps and values."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    found = {}
    for folder in sorted((place / "runs").glob("*")):
        events = EventAccumulator(str(folder), size_guidance={"scalars": 0})
        events.Reload()
        for tag in events.Tags()["scalars"]:
            points = events.Scalars(tag)
            found[tag] = np.array([p.step for p in points]), np.array([p.value for p in points])
    return found


def over(curve: tuple[np.ndarray, np.ndarray], low: float, high: float) -> float:
    """A metric's mean over the steps from low (excluded) to high; nan where it has no point."""
    steps, values = curve
    chosen = values[(steps > low) & (steps <= high)]
    return float(chosen.mean()) if chosen.size else float("nan")


def table(folder: Path, arms: list[str], tags: list[str], total: int, parts: int = 3) -> str:
    """The arms' metrics beside each other, as means over so many equal parts of the run; "-": none was logged there."""
    bounds = [round(total * part / parts) for part in range(parts + 1)]
    heads = [f"to {high:,}" for high in bounds[1:]]
    lines = [f"{'mean over steps':32}" + "".join(f"{head:>12}" for head in heads)]
    found = {arm: curves(folder / arm) for arm in arms}
    for tag in tags:
        for arm in arms:
            row = [over(found[arm].get(tag, (np.zeros(0), np.zeros(0))), low, high)
                   for low, high in zip(bounds, bounds[1:])]
            cells = "".join(f"{'-':>12}" if np.isnan(value) else f"{value:12.4g}" for value in row)
            lines.append(f"{tag:24}{arm:>8}{cells}")
    return "\n".join(lines)
