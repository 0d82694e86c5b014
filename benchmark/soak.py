"""A run of CA2E-DDPG whose actors are killed at random, beside one that is left alone, both at once.

    python benchmark/soak.py 30        # minutes; writes benchmark/results/soak.csv

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


class Run:
    """A run in a folder of its own that is told to stop after so many seconds."""

    def __init__(self, folder):
        self.mark, self.lines = uuid.uuid4().hex, []
        self.process = subprocess.Popen(
            [sys.executable, "-u", "-c", CODE, "--env-id", "Hopper-v5", "--total-timesteps", "100000000", "--prior-dir",
             str(ROOT / "priors"), "--learning-starts", "1000", "--buffer-size", "200000"], cwd=folder,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env={**os.environ, "MARK": self.mark})
        self.reader = threading.Thread(target=lambda: self.lines.extend(self.process.stdout))
        self.reader.start()
        while not any("updates/s" in line for line in self.lines):
            assert self.process.poll() is None, "".join(self.lines)
            time.sleep(0.5)

    def kill_one(self, rng):
        """SIGKILL to an actor, or the evaluator."""
        processes = marked(self.mark)
        leaves = [pid for pid in processes if pid not in processes.values()
                  and b"resource_tracker" not in Path(f"/proc/{pid}/cmdline").read_bytes()]
        os.kill(rng.choice(sorted(leaves)[1:]), signal.SIGKILL)  # not the manager, which started first

    def stop(self):
        """(restarts, updates/s, step, MB of the learner's process, processes left)."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        resident = int(status.split("VmRSS:")[1].split()[0]) / 1000
        self.process.send_signal(signal.SIGTERM)
        assert self.process.wait(60) == 143, "".join(self.lines[-20:])
        self.reader.join()
        time.sleep(5)
        progress = [line for line in self.lines if line.startswith("step ")]
        rates = [float(re.search(r"([\d,]+) updates/s", line).group(1)) for line in progress][2:]
        return (sum("is started again" in line for line in self.lines), sum(rates) / len(rates),
                int(progress[-1].split()[1].replace(",", "")), round(resident), len(marked(self.mark)))


def left_behind():
    """Shared memory segments and multiprocessing's folders of sockets."""
    return {*os.listdir("/dev/shm"), *Path("/tmp").glob("pymp-*")}


def main(minutes):
    """Both runs and the table."""
    before, rng, kills = left_behind(), random.Random(0), 0
    with tempfile.TemporaryDirectory() as one, tempfile.TemporaryDirectory() as other:
        alone, killed = Run(one), Run(other)
        start = time.time()
        while time.time() - start < 60 * minutes and killed.process.poll() is None:
            time.sleep(EVERY)
            killed.kill_one(rng)
            kills += 1
        (_, rate, step, resident, left), (restarts, *others) = alone.stop(), killed.stop()
    rows = [("minutes, both at once", minutes), ("kills", kills), ("restarts", restarts),
            ("steps lost at the most (53 a kill: a block, and n that waited)", 53 * kills),
            ("steps inserted, with kills", others[1]), ("steps inserted, left alone", step),
            ("updates/s, with kills", round(others[0], 1)), ("updates/s, left alone", round(rate, 1)),
            ("MB of the learner's process at the end, with kills", others[2]),
            ("MB of the learner's process at the end, left alone", resident),
            ("processes left", left + others[3]),
            ("shared memory segments and socket folders left", len(left_behind() - before))]
    with open(ROOT / "benchmark" / "results" / "soak.csv", "w", newline="") as file:
        csv.writer(file).writerows([("what", "value"), *rows])
    for row in rows:
        print(*row, sep=": ")


if __name__ == "__main__":
    main(float(sys.argv[1]))
