"""Runs the three scripts with settings drawn at random, most of them bad, and says which were not met as they should be.

    python benchmark/settings.py                  # 100 draws, some 15 minutes on two cores
    python benchmark/settings.py 20 --seed 7

A run must either refuse in one line (`error: ...`, or tyro's box) with an exit status that is not 0, or train to its
end and leave an agent. No traceback, no hang, no process left. Results: benchmark/results/settings.csv.
"""

import csv
import os
import signal
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import fields
from pathlib import Path

import numpy as np

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))
import ca2e_ddpg_mujoco as ddpg  # noqa: E402
import ca2e_dqn_atari as dqn  # noqa: E402
import pretrain_priors as pretrain  # noqa: E402

BASES = {  # settings by which a run of a script that is not bad ends within a few seconds
    dqn: ["--total-timesteps", "1800", "--learning-starts", "1500", "--buffer-size", "1800", "--num-nature-actors", "2",
          "--num-prior-actors", "1", "--prior-dir", str(ROOT / "priors")],
    ddpg: ["--env-id", "InvertedPendulum-v5", "--total-timesteps", "2000", "--learning-starts", "1000", "--buffer-size",
           "2000", "--prior-dir", str(ROOT / "priors")],
    pretrain: ["--env-id", "InvertedPendulum-v5", "--algo", "td3", "--total-timesteps", "1200", "--learning-starts", "500",
               "--eval-frequency", "500"],
}
WHOLE = ["-1", "0", "1", "2", "7", "300", "-5", "99999999999999999999", "1e3", "nan", "many"]
REAL = ["-1", "0", "0.5", "1", "1.5", "2", "nan", "inf", "-inf", "1e30", "1e-30", "1e-3", "much"]
TEXT = ["", "nothing", "/proc/nothing", "Hopper-v4", "ALE/Pong-v5", "CartPole-v1", "LunarLanderContinuous-v3", "..", "\n"]
SECONDS = 120
KEPT_OUT = {"capture_video", "cuda"}  # a film takes minutes; there may be a GPU


def draw(rng: np.random.Generator) -> tuple:
    """A script and its command line: the base, and one to three settings of any kind."""
    script = list(BASES)[rng.integers(len(BASES))]
    flags, given = [], rng.choice([f for f in fields(script.Args) if f.name not in KEPT_OUT], rng.integers(1, 4), False)
    for field in given:
        name = "--" + field.name.replace("_", "-")
        if isinstance(field.default, bool):
            flags += [name if rng.random() < 0.5 else name.replace("--", "--no-", 1)]
        else:
            flags += [name, str(rng.choice({int: WHOLE, float: REAL}.get(type(field.default), TEXT)))]
    return script, flags


def left_behind(mark: str) -> list[int]:
    """Processes whose environment has the mark."""
    found = []
    for place in Path("/proc").glob("[0-9]*"):
        try:
            if mark.encode() in (place / "environ").read_bytes():
                found.append(int(place.name))
        except OSError:
            pass
    return found


def verdict(number: int, script, flags: list[str]) -> list:
    """Runs one, and says what came of it."""
    name, mark = Path(script.__file__).name, f"CA2E_DRAW={os.getpid()}_{number}_"
    with tempfile.TemporaryDirectory() as folder:
        base = BASES[script] + (["--prior-dir", f"{folder}/priors"] if script is pretrain else [])
        process = subprocess.Popen([sys.executable, str(ROOT / name), *base, *flags], cwd=folder, text=True,
                                   stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                                   start_new_session=True, env={**os.environ, **dict([mark.split("=")])})
        try:
            output, faults = process.communicate(timeout=SECONDS)[0], []
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGTERM)
            try:
                output = process.communicate(timeout=30)[0]
                # at work: a run that may train for longer is no hang; one that makes no step is
                faults = [] if " steps/s" in output and "step 0 of" not in output.splitlines()[-2:] else ["hang"]
            except subprocess.TimeoutExpired:  # it does not even stop
                os.killpg(process.pid, signal.SIGKILL)
                output, faults = process.communicate()[0], ["hang, and no stop"]
            kind = "trains on"
        else:
            agents = [*Path(folder).glob("runs/*/agent.pt"), *Path(folder).glob("priors/*/*.pt")]
            kind = "trained" if process.returncode == 0 else "refused"
            if process.returncode == 0 and not agents and "--help" not in flags and "plays 20" not in output:
                faults.append("exit 0, but no agent")
            if process.returncode and not (output.startswith(("error:", "╭", "+")) or "\nerror:" in output
                                           or "Parsing error" in output):
                faults.append("refused without a line that says why")
        if "Traceback" in output:
            faults.append("traceback")
        if left := left_behind(mark):
            faults.append(f"{len(left)} processes left")
    if faults:
        print(f"--- {number}: {name} {flags}: {faults}\n{output[-1500:]}\n---", flush=True)
    return [number, name, " ".join(flags), kind, "; ".join(faults),
            next((line for line in output.splitlines() if "error" in line), "").strip()[:150]]


def main() -> None:
    count = int(sys.argv[1]) if len(sys.argv) > 1 and sys.argv[1].isdigit() else 100
    seed = int(sys.argv[sys.argv.index("--seed") + 1]) if "--seed" in sys.argv else 0
    rng = np.random.default_rng(seed)
    draws = [(number, *draw(rng)) for number in range(count)]
    with ThreadPoolExecutor(2) as pool:
        rows = list(pool.map(lambda one: verdict(*one), draws))
    with open(ROOT / "benchmark" / "results" / "settings.csv", "w", newline="") as file:
        csv.writer(file).writerows([["draw", "script", "settings", "came of it", "faults", "the line"], *rows])
    kinds = {kind: sum(row[3] == kind for row in rows) for kind in ("refused", "trained", "trains on")}
    print(f"{count} draws, seed {seed}: {kinds}; with a fault: {sum(bool(row[4]) for row in rows)}")


if __name__ == "__main__":
    if {"-h", "--help"} & {*sys.argv}:
        sys.exit(__doc__)
    main()
