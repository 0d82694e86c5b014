"""The graders graded: right answers pass, wrong ones are told why; what breaks is one line; nothing is lost."""

import os
import re
import subprocess
import sys
import time
import types
from pathlib import Path

import blank
import experiment
import numpy as np
import pytest
import runs
from answers import ANSWERS, Answer
from bugs import BUGS
from common import CONCEPTS, DDPG, DQN, ROOT, find_function, replace_body
from experiment import EXPERIMENTS, measure, permutation_p, with_priors
from grade import TooSlow, grade, grade_module, limited, stages_of, wanted
from hunt import reveal
from runs import curves, edited, run, table, thirds

HERE = Path(__file__).parent
SOURCES = {script: (ROOT / script).read_text() for script in (DQN, DDPG)}
CODE = {script: compile(source, script, "exec") for script, source in SOURCES.items()}


def graded(folder: Path, script: str, source: str, *concepts: str) -> list:
    (folder / script).write_text(source)
    return grade(folder, [(concept, script) for concept in concepts])


def handed_in(answer) -> types.ModuleType:
    """The script as a module, with this answer's function; as importing an edited file does, but in a tenth of the time."""
    module, name = types.ModuleType("handed_in"), CONCEPTS[answer.concept][answer.script]
    exec(CODE[answer.script], module.__dict__)
    outer = find_function(SOURCES[answer.script], name.split(".")[0])
    first = min([outer.lineno, *(decorator.lineno for decorator in outer.decorator_list)])
    text = "\n".join(SOURCES[answer.script].splitlines()[first - 1:outer.end_lineno])
    exec(compile(replace_body(text, name, answer.body), "answer", "exec"), module.__dict__)
    return module


def call(tool: str, *arguments, cwd=ROOT, **environment):
    return subprocess.run([sys.executable, str(HERE / tool), *map(str, arguments)], cwd=cwd, text=True,
                          capture_output=True, timeout=300, env={**os.environ, **environment})


@pytest.mark.parametrize("number", range(len(ANSWERS)), ids=[
    f"{answer.concept}-{DDPG[5:9] if answer.script == DDPG else 'dqn'}-{i}" for i, answer in enumerate(ANSWERS)])
def test_an_answer_is_graded_as_it_should_be(number):
    answer = ANSWERS[number]
    earned, total, message = grade_module(handed_in(answer), answer.concept, Path("answer"))
    if answer.phrase is None:
        assert (earned, message) == (total, "")
    else:
        assert earned < total and answer.phrase in message


@pytest.mark.parametrize("concept", CONCEPTS)
def test_a_function_that_does_nothing_earns_nothing(concept):
    for script in CONCEPTS[concept]:
        for body in ("return None", "pass"):
            earned, _, message = grade_module(handed_in(Answer(concept, script, body, "")), concept, Path("answer"))
            assert earned == 0 and message, (concept, script)


def test_the_answers_are_as_many_as_the_page_says():
    right = sum(answer.phrase is None for answer in ANSWERS)
    page = " ".join((HERE / "instructor.md").read_text().split())
    assert f"{len(ANSWERS)} answers (`answers.py`): {len(ANSWERS) - right} wrong ones" in page and f"and {right} right ones" in page
    assert page.count(f"among the {len(ANSWERS)}.") == 1


def test_each_concept_has_four_wrong_answers_and_two_right_ones():
    for concept in CONCEPTS:
        own = [answer for answer in ANSWERS if answer.concept == concept]
        assert sum(answer.phrase is None for answer in own) >= 2, concept
        assert len({answer.phrase for answer in own} - {None}) >= 4, concept


@pytest.mark.parametrize("seed", ["1", "2", "3"])  # 0: the graders as ordinary tests
def test_the_reference_passes_with_any_numbers(seed, monkeypatch):
    monkeypatch.setenv("GRADE_SEED", seed)
    for script in SOURCES:
        for concept, _, earned, total, message in grade(ROOT, [(c, script) for c in CONCEPTS if script in CONCEPTS[c]]):
            assert (earned, message) == (total, ""), concept


BROKEN = {
    "a syntax error": ("    return total, discount, k", "    return total discount, k", "SyntaxError"),
    "an import that fails": ("import tyro\n", "import tyro_\n", "No module named 'tyro_'"),
    "exit at the import": ("STACK = 1", "sys.exit(3)\nSTACK = 1", "called exit"),
    "an endless loop": ("    total, discount, k = 0.0, 1.0, 0\n", "    while True:\n        pass\n", "endless loop"),
    "an endless loop that catches all": ("    total, discount, k = 0.0, 1.0, 0\n", """
    while True:
        try:
            rewards[len(rewards)]
        except Exception:
            pass
""", "endless loop"),
    "another signature": ("def n_step_return(rewards: list[float], ", "def n_step_return(", "TypeError"),
    "a missing function": ("def n_step_return(", "def n_steps_return(", "has no attribute 'n_step_return'"),
    "exit in the function": ("    total, discount, k = 0.0, 1.0, 0\n", "    exit()\n", "called exit"),
    "None": ("    return total, discount, k", "    return None", "It returned None"),
    "nothing written yet": ("    total, discount, k = 0.0, 1.0, 0\n", "    raise NotImplementedError('yours')\n", "Not written"),
    "an error of its own": ("    total, discount, k = 0.0, 1.0, 0\n", "    total, discount, k = 0.0, 1.0, rewards[9]\n",
                            "IndexError"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_what_breaks_is_one_line_and_the_others_are_graded(name, tmp_path, capfd):
    old, new, phrase = BROKEN[name]
    assert SOURCES[DDPG].count(old) == 1
    first, second = graded(tmp_path, DDPG, SOURCES[DDPG].replace(old, new), "n_step_return", "surpassed")
    assert first[2] < first[3] and phrase in first[4] and "\n" not in first[4]
    if "import" not in name and name != "a syntax error":
        assert second[2] == second[3] and not second[4]
    assert "Traceback" not in "".join(capfd.readouterr())


def test_actor_and_learner_are_graded_though_other_functions_are_not_written_yet(tmp_path):
    source = SOURCES[DDPG]
    for name in ("n_step_return", "first_priorities", "SumTree.find", "td_target", "noise_of", "surpassed"):
        source = replace_body(source, name, "raise NotImplementedError('not yet')")
    for name in ("actor", "learner"):
        ((_, _, earned, total, message),) = graded(tmp_path, DDPG, source, name)
        assert (earned, message) == (total, ""), name


def test_results_are_revealed_only_when_asked_and_name_no_bug(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["experiment.py", "n_step", "--reveal"])
    experiment.main()
    shown = capsys.readouterr().out
    assert [line.split()[:2] for line in shown.splitlines()[2:]] == [["n1", "144.5"], ["n3", "690.3"], ["n10", "834.3"]]
    rows = (HERE / "results" / "hunts.csv").read_text().splitlines()[1:]
    assert {row.split(",")[0] for row in rows} == {"healthy", "hunted"}


def test_what_a_student_prints_is_hidden(tmp_path, capfd):
    old = "    total, discount, k = 0.0, 1.0, 0\n"
    ((_, _, earned, total, _),) = graded(
        tmp_path, DDPG, SOURCES[DDPG].replace(old, old + "    print('here I am')\n"), "n_step_return")
    assert earned == total and "here I am" not in "".join(capfd.readouterr())


def test_an_endless_loop_that_catches_even_the_stop_ends_in_one_line(tmp_path):
    old = "    total, discount, k = 0.0, 1.0, 0\n"
    (tmp_path / DDPG).write_text(SOURCES[DDPG].replace(old, """
    while True:
        try:
            sum(range(10_000)), rewards[len(rewards)]
        except:
            pass
"""))
    result = call("grade.py", tmp_path, "n_step_return")
    assert result.returncode == 1 and "a bare `except:` stops the stop" in result.stdout and "Traceback" not in result.stderr


def test_a_busy_machine_is_no_endless_loop():
    def waits(seconds):
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            time.sleep(0.01)

    with limited(1):
        waits(1.5)  # of the clock, hardly any of the processor
    with pytest.raises(TooSlow), limited(1):
        while True:
            pass


@pytest.mark.parametrize("concept", CONCEPTS)
def test_a_blank_keeps_signature_and_docstring_and_is_graded_with_nothing(concept, tmp_path):
    import ast

    blank.blank(concept, tmp_path / "mine", next(iter(CONCEPTS[concept])))
    (path,) = (tmp_path / "mine").glob("*.py")
    name = CONCEPTS[concept][path.name]
    emptied, whole = (find_function(source, name) for source in (path.read_text(), SOURCES[path.name]))
    assert ast.get_docstring(emptied) == ast.get_docstring(whole)
    assert ast.unparse(emptied.args) == ast.unparse(whole.args)
    assert [ast.unparse(d) for d in emptied.decorator_list] == [ast.unparse(d) for d in whole.decorator_list]
    assert ast.unparse(emptied.body[-1]).startswith("raise NotImplementedError")
    before, after = path.read_text().split(f'raise NotImplementedError("yours to write: {concept}")')
    assert SOURCES[path.name].startswith(before.rstrip()) and SOURCES[path.name].endswith(after)  # nothing else is gone
    ((_, _, earned, _, message),) = grade(tmp_path / "mine", wanted(tmp_path / "mine", [])[0])
    assert earned == 0 and "Not written yet" in message


def test_blank_keeps_what_was_written_before(tmp_path):
    folder = tmp_path / "mine"
    call("blank.py", "surpassed", "--folder", folder)
    path = folder / DDPG
    path.write_text(path.read_text().replace('raise NotImplementedError("yours to write: surpassed")', "return True"))
    assert not call("blank.py", "actor_loss", "--folder", folder).returncode
    assert "    return True\n" in path.read_text() and "yours to write: actor_loss" in path.read_text()
    assert wanted(folder, []) == ([("surpassed", DDPG), ("actor_loss", DDPG)], [])
    result = call("grade.py", folder, "n_step_return", "surpassed", "stack_frames")  # one given out, two not
    assert result.returncode == 1 and result.stdout.count("\n") == 7  # three concepts, their messages, the sum
    assert re.findall(r"(\w+) +\S+ +0 of 10 points\n +Not handed in", result.stdout) == ["n_step_return", "stack_frames"]
    assert re.search(r"all +\d of 31 points", result.stdout)
    (folder / "assigned.txt").write_text(f"surpassed {DDPG}\n\nactor_loss {DDPG}\n")  # edited by hand
    assert wanted(folder, []) == ([("surpassed", DDPG), ("actor_loss", DDPG)], [])
    (folder / "assigned.txt").write_text(f"surpassed {DDPG}\nactor_loss {DDPG}\n")
    (folder / DDPG).rename(folder / "away.py")
    (folder / DQN).write_text("")
    assert wanted(folder, []) == ([], [("surpassed", DDPG), ("actor_loss", DDPG)])
    (folder / "away.py").rename(folder / DDPG)
    refused = call("blank.py", "surpassed", "--folder", folder)
    assert refused.returncode == 1 and "--again" in refused.stderr and "    return True\n" in path.read_text()
    assert not call("blank.py", "surpassed", "--again", "--folder", folder).returncode
    assert "yours to write: surpassed" in path.read_text()
    assert (folder / "assigned.txt").read_text() == f"surpassed {DDPG}\nactor_loss {DDPG}\n"


@pytest.mark.parametrize("tool, arguments, phrase", [
    ("blank.py", ["n_steps"], "there is no assignment n_steps"),
    ("blank.py", ["actor_loss", "--script", DQN], "is not in ca2e_dqn_atari.py"),
    ("blank.py", ["actor_loss", "--folder", "."], "the repository itself"),
    ("grade.py", ["nowhere"], "there is no folder"),
    ("grade.py", ["priors"], "has no script"),
    ("grade.py", [".", "n_steps"], "there is no assignment n_steps"),
    ("hunt.py", ["99"], "invalid choice"),
    ("experiment.py", ["nothing"], "invalid choice"),
])
def test_bad_input_is_one_line(tool, arguments, phrase):
    result = call(tool, *arguments)
    assert result.returncode and phrase in result.stderr and "Traceback" not in result.stderr


def test_grading_needs_one_file_only_and_no_repository_around_it(tmp_path):
    (tmp_path / DDPG).write_text(SOURCES[DDPG])
    result = call("grade.py", tmp_path / DDPG, cwd=tmp_path)
    assert result.returncode == 0 and DQN not in result.stdout
    tail = re.search(r"all +(\d+) of +(\d+) points", result.stdout)
    assert tail[1] == tail[2]


def test_plain_pytest_grades_too(tmp_path):
    source = replace_body(SOURCES[DDPG], "n_step_return", "return sum(rewards), gamma, len(rewards)")
    (tmp_path / DDPG).write_text(source)
    result = subprocess.run([sys.executable, "-m", "pytest", "-q", HERE / "test_n_step_return.py"], text=True,
                            capture_output=True, timeout=300, env={**os.environ, "STUDENT": str(tmp_path)})
    assert result.returncode == 1 and "is gamma, where gamma^n is meant" in result.stdout


def test_each_concept_has_a_sheet_of_a_page_with_its_points():
    for concept in CONCEPTS:
        sheet = (HERE / "sheets" / f"{concept}.md").read_text()
        assert f"\n{sum(int(points) for _, points, _ in stages_of(concept))} points" in sheet, concept
        assert f"blank.py {concept}\n" in sheet and f"grade.py my_ca2e {concept}`" in sheet
        assert sheet.count("\n") <= 60
        for name in re.findall(r"my_ca2e/(ca2e_\w+\.py)", sheet):
            assert name in CONCEPTS[concept]
        for pattern, script in re.findall(r'grep -n "([^"]+)" .*?my_ca2e/(\w+\.py)', sheet.replace("\n", " ")):
            assert pattern in SOURCES[script], pattern


def test_bugs_and_experiments_fit_the_script():
    edits = [bug.edits for bug in BUGS.values()]
    edits += [edits for experiment in EXPERIMENTS.values() for edits, _ in experiment.arms.values()]
    for edit in edits:
        assert compile(edited(SOURCES[DDPG], edit), "edited", "exec")


def test_the_permutation_test_by_hand():
    assert permutation_p([1, 2], [3, 4]) == 2 / 6  # of six splits only {1, 2} and {3, 4} differ by 2
    assert permutation_p([1, 4], [2, 3]) == 1
    assert permutation_p([1, 2, 3, 4, 5], [6, 7, 8, 9, 10]) == 2 / 252


def test_thirds_by_hand():
    steps, values = np.array([0, 10, 11, 20, 29, 31]), np.array([1.0, 3.0, 5.0, 7.0, 9.0, 11.0])
    assert thirds({"a": (steps, values)}, "a", 30) == [2.0, 6.0, 10.0]  # a block goes a little beyond the total
    assert np.isnan(thirds({}, "a", 30)).all()


def test_two_arms_run_side_by_side_and_are_measured(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(runs, "LOG_OFTEN", (runs.LOG_OFTEN[0], runs.LOG_OFTEN[0].replace("180, 10,", "180, 0,")))
    flags = "--env-id InvertedPendulum-v5 --sync --no-cuda --total-timesteps 1800 --learning-starts 1600".split()
    flags += ["--eval-frequency", "600", *with_priors(["--prior-dir", "PRIOR:ddpg"], tmp_path)]
    arms = {"healthy": ([], flags), "hunted": (BUGS["sign"].edits, flags), "broken": ([("import multiprocessing as mp\n", "import multiprocessing_ as mp\n")], flags)}
    with pytest.raises(SystemExit, match="^error: broken failed, see"):
        run(tmp_path, arms, seed=3)
    found = {arm: curves(tmp_path / arm) for arm in ("healthy", "hunted")}
    for arm in found:
        assert [int(step) // 600 for step in found[arm]["charts/eval_return"][0]] == [1, 2, 3]
    assert found["hunted"]["losses/actor_loss"][1][-1] > 0 > found["healthy"]["losses/actor_loss"][1][-1]
    shown = table(tmp_path, ["healthy", "hunted"], ["charts/eval_return", "charts/nothing"], 1800)
    assert shown.splitlines()[0].split()[-1] == "1,800" and shown.splitlines()[3].split()[-3:] == ["-"] * 3
    row = measure(tmp_path / "healthy", 1.0)
    assert row["reached"] == int(found["healthy"]["charts/eval_return"][0][0])
    assert row["curve"].count(":") == 3 and row["final"] > 0


@pytest.mark.parametrize("number", range(1, len(BUGS) + 1))
def test_a_bug_is_revealed_with_its_line_and_its_story(number, capsys):
    reveal(number)
    shown, bug = capsys.readouterr().out, list(BUGS.values())[number - 1]
    (old, new), = bug.edits
    line = int(re.search(r"line (\d+):", shown)[1])
    assert old.strip(" #\n") in "\n".join(SOURCES[DDPG].splitlines()[line - 1:line + 2])
    assert f"\n+ {new.strip(' #')}" in shown + "\n" and bug.story in shown
