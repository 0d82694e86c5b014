"""A run of CA2E-DDPG whose actors are killed at random, beside one that is left alone, both at once.

    python benchmark/soak.py 30        # minutes; writes benchmark/results/soak.csv

Every ten seconds a random actor, or the evaluator, gets SIGKILL. The table gives restarts, the steps that went with the
dead at the most (what an actor had not delivered), updates/s, memory, and what stayed behind after both runs. The rule
that five killed children within a minute end a run is switched off: so many kills would trip it at once.
"""

import contextlib
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
ca2e.KILLS_A_MINUTE = 10**9
ca2e.main(ca2e.parse())
"""


def marked(mark):
    """Processes whose environment holds the mark: id -> (parent's id, time of its start, MB that are its own)."""
    found = {}
    for path in Path("/proc").glob("[0-9]*"):
        try:
            if mark.encode() in (path / "environ").read_bytes():
                fields = (path / "stat").read_text().rsplit(")", 1)[1].split()
                share = (path / "smaps_rollup").read_text().split("Pss:")[1].split()[0]
                found[int(path.name)] = int(fields[1]), int(fields[19]), int(share) / 1000
        except (OSError, IndexError):
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
        parents = {parent for parent, _, _ in processes.values()}
        with contextlib.suppress(ProcessLookupError, FileNotFoundError):  # it has just ended
            leaves = sorted((start, pid) for pid, (_, start, _) in processes.items() if pid not in parents
                            and b"resource_tracker" not in Path(f"/proc/{pid}/cmdline").read_bytes())
            os.kill(rng.choice(leaves[1:])[1], signal.SIGKILL)  # not the manager, which started first

    def memory(self):
        """MB of all its processes together, each page counted once."""
        return round(sum(size for _, _, size in marked(self.mark).values()))

    def stop(self):
        """(restarts, updates/s, step, MB, processes left)."""
        size = self.memory()
        self.process.send_signal(signal.SIGTERM)
        assert self.process.wait(60) == 143, "".join(self.lines[-20:])
        self.reader.join()
        time.sleep(5)
        progress = [line for line in self.lines if line.startswith("step ")]
        rates = [float(re.search(r"([\d,]+) updates/s", line).group(1)) for line in progress][2:]
        return (sum("is started again" in line for line in self.lines), sum(rates) / len(rates),
                int(progress[-1].split()[1].replace(",", "")), size, len(marked(self.mark)))


def left_behind():
    """Shared memory segments and multiprocessing's folders of sockets."""
    return {*os.listdir("/dev/shm"), *Path("/tmp").glob("pymp-*")}


def main(minutes):
    """Both runs and the table."""
    before, rng, kills, sizes = left_behind(), random.Random(0), 0, []
    with tempfile.TemporaryDirectory() as one, tempfile.TemporaryDirectory() as other:
        alone, killed = Run(one), Run(other)
        start = time.time()
        while time.time() - start < 60 * minutes and killed.process.poll() is None:
            time.sleep(EVERY)
            killed.kill_one(rng)
            kills += 1
            if len(sizes) == 0 and time.time() - start > 60 * minutes / 2:  # the replay has long been full
                time.sleep(1)
                sizes = [killed.memory(), alone.memory()]
        (_, rate, step, size, left), (restarts, *others) = alone.stop(), killed.stop()
    rows = [("minutes, both at once", minutes), ("kills", kills), ("restarts", restarts),
            ("steps lost at the most (54 a kill: a block, n that waited, a final state)", 54 * kills),
            ("steps inserted, with kills", others[1]), ("steps inserted, left alone", step),
            ("updates/s, with kills", round(others[0], 1)), ("updates/s, left alone", round(rate, 1)),
            ("MB of all processes, with kills: half way", sizes[0]), ("the same at the end", others[2]),
            ("MB of all processes, left alone: half way", sizes[1]), ("the same at the end", size),
            ("processes left", left + others[3]),
            ("shared memory segments and socket folders left", len(left_behind() - before))]
    with open(ROOT / "benchmark" / "results" / "soak.csv", "w", newline="") as file:
        csv.writer(file).writerows([("what", "value"), *rows])
    for row in rows:
        print(*row, sep=": ")


if __name__ == "__main__":
    if {"-h", "--help"} & {*sys.argv} or len(sys.argv) == 1:
        sys.exit(__doc__)
    main(float(sys.argv[1]))
