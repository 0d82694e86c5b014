"""Writes a copy of a script in which a function is yours to write, and says where its sheet is.

    python tests/assignments/blank.py n_step_return                       # into my_ca2e/
    python tests/assignments/blank.py surpassed td_target --folder anna   # two of them, into anna/
    python tests/assignments/blank.py n_step_return --script ca2e_dqn_atari.py
    python tests/assignments/blank.py n_step_return --again               # throws your answer away

What you wrote before stays: only the functions that you name are emptied.
"""

import argparse
import sys
from pathlib import Path

from common import CONCEPTS, DDPG, DQN, ROOT, find_function, replace_body


def lines_of(source: str, name: str) -> str:
    function = find_function(source, name)
    return f"lines {function.lineno} to {function.end_lineno}"


def blank(concept: str, folder: Path, script: str, again: bool = False) -> str:
    """Empties a concept's function in the folder's script, which is copied first if it is not there."""
    name, path, assigned = CONCEPTS[concept][script], folder / script, folder / "assigned.txt"
    given = assigned.read_text().splitlines() if assigned.exists() else []
    line = f"{concept} {script}"
    if line in given and path.exists() and not again:
        sys.exit(f"error: {concept} is in {path} already; --again throws away what you wrote there")
    try:
        source = (path if path.exists() else ROOT / script).read_text()
        if find_function(source, name) is None:
            sys.exit(f"error: {path} has no function {name} any more")
        emptied = replace_body(source, name, f'raise NotImplementedError("yours to write: {concept}")')
    except SyntaxError as error:
        sys.exit(f"error: {path} is not valid Python (line {error.lineno}); mend it first")
    except UnicodeDecodeError:
        sys.exit(f"error: {path} is not saved as UTF-8; save it so, first")
    folder.mkdir(parents=True, exist_ok=True)
    path.write_text(emptied)
    assigned.write_text("\n".join(given + [line] * (line not in given)) + "\n")
    return f"{path}: write `{name}`, {lines_of(emptied, name)}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("concepts", nargs="+", metavar="concept", help=", ".join(CONCEPTS))
    parser.add_argument("--folder", type=Path, default=Path("my_ca2e"), help="yours; my_ca2e unless told")
    parser.add_argument("--script", choices=(DQN, DDPG), help="where both have it; each sheet names one")
    parser.add_argument("--again", action="store_true", help="empty a function that you have begun")
    args = parser.parse_args()
    for concept in args.concepts:
        if concept not in CONCEPTS:
            sys.exit(f"error: there is no assignment {concept}; there are {', '.join(CONCEPTS)}")
        if args.script and args.script not in CONCEPTS[concept]:
            sys.exit(f"error: {concept} is not in {args.script}, but in {', '.join(CONCEPTS[concept])}")
    if args.folder.resolve() == ROOT.resolve():
        sys.exit("error: --folder is the repository itself; take another one")
    for concept in args.concepts:
        print(blank(concept, args.folder, args.script or next(iter(CONCEPTS[concept])), args.again))
        print(f"  the sheet: {(Path(__file__).parent / 'sheets' / concept).relative_to(ROOT)}.md")
    print(f"  your grade: python tests/assignments/grade.py {args.folder}")


if __name__ == "__main__":
    main()
