"""A run of CA2E-DDPG whose actors are killed at random, beside one that is left alone, in turn.

    python benchmark/soak.py 30        # minutes of each; writes benchmark/results/soak.csv

Every ten seconds a random actor, or the evaluator, gets SIGKILL. The table gives restarts, the steps that went with the
dead at the most (what an actor had not delivered), updates/s, and what stayed behind after both runs.
"""

import csv
import os
import random
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time
import uuid
from pathlib import Path

ROOT = Path(__file__).parents[1]
EVERY = 10
CODE = f"""
import sys
sys.path.insert(0, {str(ROOT)!r})
import ca2e_ddpg_mujoco as ca2e
ca2e.DEATHS_A_MINUTE = 10**9
ca2e.main(ca2e.parse())
"""


def marked(mark):
    """Process ids whose environment holds the mark, with their parents' ids."""
    found = {}
    for path in Path("/proc").glob("[0-9]*"):
        try:
            if mark.encode() in (path / "environ").read_bytes():
                found[int(path.name)] = int((path / "stat").read_text().rsplit(")", 1)[1].split()[1])
        except OSError:
            continue
    return found


def run(seconds, kill):
    """Runs for so long, killing if asked; (kills, restarts, updates/s, processes left, transitions inserted)."""
    mark, kills, lines, rng = uuid.uuid4().hex, 0, [], random.Random(0)
    with tempfile.TemporaryDirectory() as folder:
        process = subprocess.Popen(
            [sys.executable, "-u", "-c", CODE, "--env-id", "Hopper-v5", "--total-timesteps", "100000000", "--prior-dir",
             str(ROOT / "priors"), "--learning-starts", "1000", "--buffer-size", "200000"], cwd=folder,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env={**os.environ, "MARK": mark})
        reader = threading.Thread(target=lambda: lines.extend(process.stdout))
        reader.start()
        while not any("updates/s" in line for line in lines):
            time.sleep(0.5)
        start = time.time()
        while time.time() - start < seconds and process.poll() is None:
            time.sleep(EVERY)
            if kill:
                processes = marked(mark)
                leaves = [pid for pid in processes if pid not in processes.values()
                          and b"resource_tracker" not in Path(f"/proc/{pid}/cmdline").read_bytes()]
                os.kill(rng.choice(sorted(leaves)[1:]), signal.SIGKILL)  # not the manager, which started first
                kills += 1
        process.send_signal(signal.SIGTERM)
        status = process.wait(60)
        reader.join()
    time.sleep(5)
    assert status == 143, "".join(lines[-20:])
    restarts = sum("is started again" in line for line in lines)
    progress = [line for line in lines if line.startswith("step ")]
    rates = [float(re.search(r"([\d,]+) updates/s", line).group(1)) for line in progress][2:]
    step = int(progress[-1].split()[1].replace(",", ""))
    return kills, restarts, sum(rates) / len(rates), len(marked(mark)), step


def main(minutes):
    """Both runs and the table."""
    before = set(os.listdir("/dev/shm")), set(Path("/tmp").glob("ca2e-*"))
    alone = run(60 * minutes, kill=False)
    killed = run(60 * minutes, kill=True)
    after = set(os.listdir("/dev/shm")), set(Path("/tmp").glob("ca2e-*"))
    rows = [("minutes of each run", minutes), ("kills", killed[0]), ("restarts", killed[1]),
            ("steps lost at the most (53 a kill: a block, and n that waited)", 53 * killed[0]),
            ("steps inserted meanwhile", killed[4]), ("updates/s, left alone", round(alone[2], 1)),
            ("updates/s, with kills", round(killed[2], 1)), ("processes left", alone[3] + killed[3]),
            ("shared memory segments and socket folders left", sum(len(b - a) for a, b in zip(before, after)))]
    with open(ROOT / "benchmark" / "results" / "soak.csv", "w", newline="") as file:
        csv.writer(file).writerows([("what", "value"), *rows])
    for row in rows:
        print(*row, sep=": ")


if __name__ == "__main__":
    main(float(sys.argv[1]))
