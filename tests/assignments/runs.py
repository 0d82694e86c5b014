"""What hunt.py and experiment.py share: edited copies of a script, run side by side, and their curves."""

import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

from common import DDPG, ROOT

PENDULUM = ["--env-id", "InvertedPendulum-v5", "--sync", "--no-cuda", "--total-timesteps", "12000", "--learning-starts",
            "1000", "--tau", "0.01", "--eval-frequency", "1000"]
LOG_OFTEN = ("SAVE_SECONDS, LOG_SECONDS, KILLS_A_MINUTE = 2, 180, 10, 5", "SAVE_SECONDS, LOG_SECONDS, KILLS_A_MINUTE = 2, 180, 2, 5")


def edited(source: str, edits: list[tuple[str, str]]) -> str:
    """source with each old text, which must stand there once, replaced by the new one."""
    for old, new in edits:
        if source.count(old) != 1:
            sys.exit(f"error: {DDPG} has been edited: `{old.strip()}` stands there {source.count(old)} times, not once; "
                     f"git checkout {DDPG}")
        source = source.replace(old, new)
    return source


def commit() -> str:
    """Of the repository; with -dirty if its files were edited, empty without git."""
    try:
        return subprocess.run(["git", "-C", ROOT, "describe", "--always", "--dirty"], text=True, capture_output=True).stdout.strip()
    except OSError:
        return ""


def run(folder: Path, arms: dict[str, tuple[list, list]], seed: int, at_once: int = 2) -> dict[str, int]:
    """Runs each arm, (edits, flags), in folder/<its name>, so many at once; returns the seconds that each took."""
    if commit().endswith("-dirty"):
        print("(the repository's files are edited; what runs are copies of them as they are)")
    source = (ROOT / DDPG).read_text()
    waiting, running, seconds, failed = [], {}, {}, []
    for name, (edits, flags) in arms.items():
        place = folder / name
        shutil.rmtree(place, ignore_errors=True)
        place.mkdir(parents=True)
        (place / DDPG).write_text(edited(source, [LOG_OFTEN, *edits]))  # logs often: more points a curve
        prior_dir = [] if "--prior-dir" in flags else ["--prior-dir", str(ROOT / "priors")]
        waiting.append((name, place, [sys.executable, DDPG, *flags, *prior_dir, "--seed", str(seed)]))
    try:
        while waiting or running:
            while waiting and len(running) < at_once:
                name, place, command = waiting.pop(0)
                with open(place / "output.txt", "w") as output:
                    process = subprocess.Popen(command, cwd=place, stdout=output, stderr=subprocess.STDOUT)
                running[name] = process, place, time.monotonic()
            for name, (process, place, begun) in list(running.items()):
                if process.poll() is not None:
                    del running[name]
                    seconds[name] = round(time.monotonic() - begun)
                    if process.returncode:
                        failed.append(f"error: {name} failed, see {place / 'output.txt'}")
            time.sleep(1)
            print("." * (time.monotonic() % 5 < 1), end="", flush=True)  # one in five seconds
    finally:
        for process, *_ in running.values():
            process.terminate()
            process.wait()
    print()
    if failed:
        sys.exit("\n".join(failed))
    return seconds


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


def thirds(found: dict, tag: str, total: int) -> list[float]:
    """A metric's means over the three thirds of a run; nan where it has no point."""
    steps, values = found.get(tag, (np.zeros(0), np.zeros(0)))
    part = np.minimum(2, (np.maximum(steps, 1) - 1) * 3 // total)  # a run's last block goes a little beyond its total
    return [float(values[part == i].mean()) if (part == i).any() else float("nan") for i in range(3)]


def table(folder: Path, arms: list[str], tags: list[str], total: int) -> str:
    """The arms' metrics beside each other, as means over thirds of the run; "-": none was logged there."""
    lines = [f"{'mean over steps':32}" + "".join(f"{f'to {total * part // 3:,}':>12}" for part in (1, 2, 3))]
    found = {arm: curves(folder / arm) for arm in arms}
    for tag in tags:
        for arm in arms:
            cells = ["-" if np.isnan(value) else f"{value:.4g}" for value in thirds(found[arm], tag, total)]
            lines.append(f"{tag:24}{arm:>8}" + "".join(f"{cell:>12}" for cell in cells))
    return "\n".join(lines)
