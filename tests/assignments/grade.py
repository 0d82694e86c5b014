"""Grades the functions that a student wrote.

    python tests/assignments/grade.py my_ca2e                  # what blank.py gave out there
    python tests/assignments/grade.py my_ca2e n_step_return    # named ones
    GRADE_SEED=7 python tests/assignments/grade.py my_ca2e     # with other numbers

Each concept's tests are in test_<concept>.py; the points stand in their docstrings. They are ordinary tests too:

    STUDENT=my_ca2e python -m pytest tests/assignments/test_n_step_return.py

Grading runs the student's file. Only `actor` and `learner`, once all else is right, meet a real environment and replay,
for two blocks. A test may take two seconds, these ten.
"""

import contextlib
import importlib
import io
import os
import re
import signal
import sys
import time
from pathlib import Path

from common import CONCEPTS, import_script, scripts_in

SECONDS = 2  # for one test, and five times as long for importing the file


class TooSlow(BaseException):  # no `except Exception` of a student's stops it
    pass


@contextlib.contextmanager
def limited(seconds: int):
    """Raises TooSlow after so many seconds of the processor, or ten times as many; hides what is printed meanwhile."""
    begun, times = (time.process_time(), time.monotonic()), []

    def late(number, frame):
        signal.alarm(1)  # a bare `except:` may swallow what is raised below
        if time.process_time() - begun[0] < 0.9 * seconds and time.monotonic() - begun[1] < 10 * seconds:
            return  # others take the cores
        times.append(number)
        if len(times) > 2:
            os.write(1, b"error: an endless loop, in which a bare `except:` stops the stop; nothing was graded\n")
            os._exit(1)
        raise TooSlow(f"it was stopped after {seconds} seconds: an endless loop?")

    before = signal.signal(signal.SIGALRM, late)
    signal.alarm(seconds)
    try:
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def sentence(error: BaseException, path: Path) -> str:
    """One line on what went wrong."""
    if isinstance(error, AssertionError) and str(error):
        return " ".join(str(error).split())
    if isinstance(error, TooSlow):
        return str(error).capitalize()
    if isinstance(error, NotImplementedError):
        return f"Not written yet ({error})."
    lines, trace = [], error.__traceback__  # the last line in the student's file
    while trace:
        if trace.tb_frame.f_code.co_filename == str(path):
            lines.append(trace.tb_lineno)
        trace = trace.tb_next
    number = error.lineno if isinstance(error, SyntaxError) else lines[-1] if lines else None
    what = f"{type(error).__name__}: {error.msg if isinstance(error, SyntaxError) else error}"
    if isinstance(error, SystemExit):
        what = f"it called exit ({error.code})"
    return f"{' '.join(what.split())[:200]}" + (f" (line {number} of {path.name})" if number else "")


def stages_of(concept: str) -> list:
    """A concept's tests in their order, each with its points and what it is about."""
    module = importlib.import_module(f"test_{concept}")
    tests = [test for name, test in vars(module).items() if name.startswith("test_")]
    return [(test, *re.match(r"(\d+) points?: (.*)", test.__doc__).groups()) for test in tests]


def grade_module(module, concept: str, path: Path) -> tuple[int, int, str]:
    """Of a concept in an imported script, or the line that says why it was not: points, those to be had, a failure."""
    earned, total, failures, stopped = 0, 0, 0, isinstance(module, str)
    message = module if stopped else ""
    for test, points, about in stages_of(concept):
        total += int(points)
        try:
            seconds = getattr(test, "seconds", SECONDS)
            if not stopped and not (failures and seconds > SECONDS):  # a slow one only once the others pass
                with limited(seconds):
                    test(module)
                earned += int(points)
        except BaseException as error:  # also a student's exit
            stopped = isinstance(error, (TooSlow, NotImplementedError))  # it would be so again
            message, failures = message or f"[{about}] {sentence(error, path)}", failures + 1
    return earned, total, message + f" (And {failures - 1} more tests fail.)" * (failures > 1)


def grade(path: Path, concepts: list[tuple[str, str]]) -> list[tuple[str, str, int, int, str]]:
    """Of (concept, script) each: the points, those to be had, and one line on the first failure, if any."""
    modules, results = {}, []
    with contextlib.suppress(ImportError):  # outside the time limit: on a slow disk this takes long
        for name in ("ale_py", "gymnasium", "mujoco", "torch.utils.tensorboard", "tyro"):
            importlib.import_module(name)
    for concept, script in concepts:
        file = path if path.is_file() else path / script
        if file not in modules:
            try:
                with limited(5 * SECONDS):
                    modules[file] = import_script(file)
            except BaseException as error:
                modules[file] = f"{file.name} cannot be imported: {sentence(error, file)}"
        results.append((concept, script, *grade_module(modules[file], concept, file)))
    return results


def wanted(path: Path, names: list[str]) -> tuple[list, list]:
    """The (concept, script) pairs to grade: those named, else those that blank.py gave out, else all; and of these what is missing."""
    if not path.exists():
        sys.exit(f"error: there is no folder {path}; give the one that blank.py wrote to, as in `grade.py my_ca2e`")
    scripts, assigned = [script.name for script in scripts_in(path)], path / "assigned.txt"
    if not scripts:
        sys.exit(f"error: {path} has no script; `python tests/assignments/blank.py n_step_return` makes one")
    if unknown := [name for name in names if name not in CONCEPTS]:
        sys.exit(f"error: there is no assignment {unknown[0]}; there are {', '.join(CONCEPTS)}")
    given = [tuple(line.split()) for line in assigned.read_text().splitlines() if line.strip()] if assigned.is_file() else []
    every = [(concept, script) for concept in CONCEPTS for script in scripts if script in CONCEPTS[concept]]
    chosen = [pair for pair in given or every if not names or pair[0] in names]
    chosen += [(name, next(iter(CONCEPTS[name]))) for name in names if name not in dict(chosen)]
    missing = [pair for pair in chosen if pair not in every or pair not in (given or every)]
    return [pair for pair in chosen if pair not in missing], missing


def main() -> None:
    if len(sys.argv) < 2 or any(word.startswith("-") for word in sys.argv[1:]):
        return print(__doc__)
    path = Path(sys.argv[1]).resolve()
    pairs, missing = wanted(path, sys.argv[2:])
    if not os.environ.get("GRADE_SEED", "0").isdigit():
        sys.exit("error: GRADE_SEED must be a whole number")
    results = grade(path, pairs)
    for concept, script in missing:
        total = sum(int(points) for _, points, _ in stages_of(concept))
        results.append((concept, script, 0, total, f"Not handed in: its script is gone, or `blank.py {concept}` never gave it out."))
    for concept, script, earned, total, message in results:
        print(f"{concept:20} {script:20} {earned:3} of {total:2} points" + f"\n    {message}" * bool(message))
    print(f"{'all':41} {sum(row[2] for row in results):3} of {sum(row[3] for row in results):2} points")
    sys.exit(any(row[4] for row in results))


if __name__ == "__main__":
    main()
