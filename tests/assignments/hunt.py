"""Bug hunts: one line of CA2E-DDPG is wrong. Find it from its curves, then in the code.

    python tests/assignments/hunt.py 1             # a minute or two; both runs at once, on two cores
    tensorboard --logdir hunts/1                   # all curves, the healthy run's beside
    python tests/assignments/hunt.py 1 --reveal    # when you have written down your answer

The run is InvertedPendulum-v5 in one process (`--sync`), so the same seed gives the same curves on the same machine.
What to hand in: what you saw first, what you suspected, what you looked at next, the line, and its mend.
"""

import argparse
import sys
from pathlib import Path

from bugs import BUGS
from common import DDPG, ROOT
from runs import PENDULUM, run, table

TAGS = ["charts/eval_return", "charts/episodic_return", "priors/episodic_return", "priors/acting", "losses/q_values",
        "losses/td_loss", "losses/actor_loss"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("number", type=int, choices=range(1, len(BUGS) + 1))
    parser.add_argument("--reveal", action="store_true", help="show the planted bug; nothing runs")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--folder", type=Path, default=Path("hunts"), help="where the copies and curves go")
    args = parser.parse_args()
    bug = list(BUGS.values())[args.number - 1]
    if args.reveal:
        lines = (ROOT / DDPG).read_text().splitlines()
        for old, new in bug.edits:
            number = next(i for i, line in enumerate(lines, 1) if old.strip("\n") in line)
            print(f"{DDPG}, line {number}:\n- {old.strip()}\n+ {new.strip()}")
        return print(f"\n{bug.story}")
    folder = args.folder / str(args.number)
    print(f"healthy and hunted, seed {args.seed}, in {folder}", end=" ", flush=True)
    run(folder, {"healthy": ([], PENDULUM), "hunted": (bug.edits, PENDULUM)}, args.seed)
    print(table(folder, ["healthy", "hunted"], TAGS, int(PENDULUM[PENDULUM.index("--total-timesteps") + 1])))
    print(f"(-: no such episode ended, or nothing was logged.)\n\ntensorboard --logdir {folder}      # all curves\n{folder}/hunted/{DDPG} has the bug")


if __name__ == "__main__":
    sys.exit(main())
