"""Bug hunts: one line of CA2E-DDPG is wrong. Find it from its curves, then in the code.

    python tests/assignments/hunt.py 1             # some two minutes; both runs at once, on two cores
    tensorboard --logdir hunts/1                   # all curves, the healthy run's beside
    python tests/assignments/hunt.py 1 --reveal    # when you have written down your answer

The run is InvertedPendulum-v5 in one process (`--sync`): the same seed gives the same returns on the same machine.
What to hand in: what you saw first, what you suspected, what you looked at next, the line, and its mend.
"""

import argparse
import csv
import sys
from pathlib import Path

from bugs import BUGS
from common import DDPG, ROOT
from runs import PENDULUM, commit, curves, edited, run, table, thirds

TAGS = ["charts/eval_return", "charts/episodic_return", "priors/episodic_return", "priors/acting", "losses/q_values",
        "losses/td_loss", "losses/actor_loss", "charts/final_return"]
TOTAL = int(PENDULUM[PENDULUM.index("--total-timesteps") + 1])
RESULTS = Path(__file__).parent / "results" / "hunts.csv"


def reveal(number: int) -> None:
    """Prints a bug: line by line, and its story."""
    bug, source = list(BUGS.values())[number - 1], (ROOT / DDPG).read_text()
    edited(source, bug.edits)  # if the script was edited there, a line says so
    for old, new in bug.edits:
        print(f"{DDPG}, line {source[:source.index(old)].count(chr(10)) + 1}:\n- {old.strip(' #')}\n+ {new.strip(' #')}")
    print(f"\n{bug.story}")


def record(folder: Path, number: int, seed: int) -> None:
    """Appends what was seen to results/hunts.csv."""
    with open(RESULTS, "a", newline="") as file:
        for name in ("healthy", "hunted"):
            for tag in TAGS:
                means = ["" if mean != mean else f"{mean:.4g}" for mean in thirds(curves(folder / name), tag, TOTAL)]
                csv.writer(file).writerow([name, seed, tag, *means, commit(), f"hunt.py {number} --seed {seed}"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("number", type=int, choices=range(1, len(BUGS) + 1))
    parser.add_argument("--reveal", action="store_true", help="show the planted bug; nothing runs")
    parser.add_argument("--seed", type=int, default=3, help="3 shows most, where it was tried")
    parser.add_argument("--folder", type=Path, default=Path("hunts"), help="where the copies and curves go")
    parser.add_argument("--record", action="store_true", help="append what was seen to results/hunts.csv")
    args = parser.parse_args()
    if args.reveal:
        return reveal(args.number)
    folder = args.folder / str(args.number) / f"seed{args.seed}"
    print(f"healthy and hunted, seed {args.seed}, in {folder}", end=" ", flush=True)
    bug = list(BUGS.values())[args.number - 1]
    run(folder, {"healthy": ([], PENDULUM), "hunted": (bug.edits, PENDULUM)}, args.seed)
    print(table(folder, ["healthy", "hunted"], TAGS, TOTAL))
    print(f"(-: no such episode ended, or nothing was logged)\n\ntensorboard --logdir {folder}      # all curves\n"
          f"{folder}/hunted/{DDPG} has the bug")
    if args.record:
        record(folder, args.number, args.seed)


if __name__ == "__main__":
    sys.exit(main())
