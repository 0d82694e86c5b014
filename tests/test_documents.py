"""README, requirements, metadata and the scripts say the same thing."""

import ast
import csv
import dataclasses
import difflib
import itertools
import re
import sys
import tomllib
from pathlib import Path

import numpy as np
import pytest
import tyro

import ca2e_ddpg_mujoco as ddpg
import ca2e_dqn_atari as ca2e
import pretrain_priors as pretrain

ROOT = Path(__file__).parents[1]
SCRIPTS = ["ca2e_dqn_atari.py", "ca2e_ddpg_mujoco.py", "pretrain_priors.py"]
README = (ROOT / "README.md").read_text()
REPORT = " ".join((ROOT / "benchmark/README.md").read_text().split())
sys.path.insert(0, str(ROOT / "benchmark"))
import compare  # noqa: E402


def definitions(name):
    """The source of each top-level function and class of a script."""
    text = (ROOT / name).read_text()
    return {node.name: ast.get_source_segment(text, node) for node in ast.parse(text).body
            if isinstance(node, (ast.FunctionDef, ast.ClassDef))}


@pytest.mark.parametrize("name", SCRIPTS)
def test_inline_metadata_equals_the_requirements_but_those_of_the_tests(name):
    block = re.search(r"^# /// script\n((?:#.*\n)+?)# ///$", (ROOT / name).read_text(), re.MULTILINE).group(1)
    metadata = tomllib.loads(re.sub(r"^# ?", "", block, flags=re.MULTILINE))
    lines = (ROOT / "requirements.txt").read_text().splitlines()
    assert metadata["dependencies"] == [line for line in lines if not line.startswith(("#", "pytest"))]
    assert metadata["requires-python"] == ">=3.11"


SHARED = set("""LocalBuffer Log PrioritizedReplay Recorded SumTree allowed_step batches_due check end_with_learner find_priors
    gather importance_weights learner load n_step_return parse publish receive run_child run_processes save_agent
    shared_memory soft_update store_fields surpassed take_turns""".split())


@pytest.mark.parametrize("one, other, shared", [
    ("ca2e_dqn_atari.py", "ca2e_ddpg_mujoco.py", SHARED),
    ("ca2e_dqn_atari.py", "pretrain_priors.py",
     {"make_atari", "QNetwork", "play_atari", "soft_update"}),
    ("ca2e_ddpg_mujoco.py", "pretrain_priors.py",
     {"make_control", "dense", "Actor", "Critic", "play_control", "soft_update"}),
])
def test_what_the_scripts_share_is_the_same_to_the_letter(one, other, shared):
    one, other = definitions(one), definitions(other)
    assert {name for name in one if one[name] == other.get(name)} == shared


def test_both_ca2e_scripts_have_the_same_banners_in_the_same_order():
    banners = [re.findall(r"^# [-=]{20,} .*$", (ROOT / name).read_text(), re.MULTILINE) for name in SCRIPTS[:2]]
    assert banners[0] == banners[1] and len(banners[0]) == 11


@pytest.mark.parametrize("name, most, paper, longest", [
    ("ca2e_dqn_atari.py", 800, 520, 80), ("ca2e_ddpg_mujoco.py", 800, 520, 80), ("pretrain_priors.py", 500, None, 0)])
def test_the_scripts_are_short_enough_to_be_read(name, most, paper, longest):
    text = (ROOT / name).read_text()
    lines = text.splitlines()
    assert len(lines) <= most and max(map(len, lines)) <= 110, "our own limits; an edited copy may pass them"
    if paper:
        assert next(i for i, line in enumerate(lines) if line.startswith("# ---") and "no paper" in line) <= paper
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef) and node.name != "main":
            assert node.end_lineno - node.lineno < (longest if node.name == "learner" else 60), node.name


def test_the_diff_of_the_two_ca2e_scripts_teaches_ddpg():
    one, other = ((ROOT / name).read_text().splitlines() for name in SCRIPTS[:2])
    same = sum(block.size for block in difflib.SequenceMatcher(None, one, other, autojunk=False).get_matching_blocks())
    assert same > 0.75 * max(len(one), len(other))


@pytest.mark.parametrize("name", SCRIPTS)
def test_scripts_stand_alone_and_every_flag_is_used_and_explained(name):
    text = (ROOT / name).read_text()
    tree = ast.parse(text)
    imported = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    imported |= {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    assert not {module for module in imported if module.split(".")[0] in {Path(other).stem for other in SCRIPTS}}
    (arguments,) = [node for node in tree.body if isinstance(node, ast.ClassDef) and node.name == "Args"]
    read = {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
    lines = text.splitlines()
    for node in arguments.body:
        if isinstance(node, ast.AnnAssign):
            assert "  # " in lines[node.end_lineno - 1], f"{node.target.id} has no explanation"
            assert node.target.id in read or f'"{node.target.id}"' in text, f"nothing reads {node.target.id}"


@pytest.mark.parametrize("module", [ca2e, ddpg, pretrain])
def test_help_shows_each_flag_with_its_explanation(module, capsys):
    with pytest.raises(SystemExit):
        tyro.cli(module.Args, args=["--help"])
    shown = re.sub(r"[^a-z0-9-]", "", capsys.readouterr().out.lower())
    lines = Path(module.__file__).read_text().split("class Args:")[1].splitlines()
    explained = [match for line in lines if (match := re.match(r"    (\w+): .*  # (.*)$", line))]
    for match in explained:
        assert "--" + match[1].replace("_", "-") in shown
        assert re.sub(r"[^a-z0-9-]", "", match[2].lower()) in shown, match[1]
    assert len(explained) >= len(dataclasses.fields(module.Args)) - 1  # --algo of the pretrainer has two lines


def test_the_readme_is_short():
    assert len(README.splitlines()) <= 240 and len(README.split()) <= 2500


def test_the_readme_names_what_is_there():
    fields = {field.name for module in (ca2e, ddpg, pretrain) for field in dataclasses.fields(module.Args)}
    for flag in set(re.findall(r"--([a-z][a-z0-9-]+)", README)) - {"logdir", "dist"}:
        assert flag.removeprefix("no-").replace("-", "_") in fields, f"--{flag}"
    table = README.split("## From the paper to the code")[1].split("\n## ")[0]
    for name in re.findall(r"`([A-Za-z_.]+)`", table):
        if not name.endswith(".py") and name != "None":
            owner, *rest = name.split(".")
            found = getattr(ca2e, owner, None) or getattr(ddpg, owner, None) or getattr(pretrain, owner, None)
            assert found is not None and all(hasattr(found, part) for part in rest), name
    for path in re.findall(r"`((?:benchmark|priors|tests)[\w/.]*)`", README) + re.findall(r"\]\(([\w/.]+)\)", README):
        assert (ROOT / path).exists() or path in {"priors/episodic_return", "priors/acting", "priors/steps"}, path


def test_each_command_on_the_pages_is_one_that_the_scripts_take():
    pages = [ROOT / "README.md", *ROOT.glob("benchmark/*.md"), *ROOT.glob("tests/assignments/**/*.md")]
    text = "\n".join([path.read_text() for path in pages] + [(ROOT / name).read_text() for name in SCRIPTS])
    text = re.sub(r"\\\n +", "", text)  # lines that go on
    text = re.sub(r"`[^`]*`", lambda quoted: "\n" + quoted[0].strip("`").replace("\n", " ") + "\n", text)
    found = re.findall(r"python (?:my_ca2e/)?(ca2e_\w+|pretrain_priors)\.py( [^#\n]+)", text)
    for script, flags in found:
        if "..." not in flags and "<" not in flags and not flags.strip().endswith("--evaluate"):  # of some file
            tyro.cli({"ca2e_dqn_atari": ca2e, "ca2e_ddpg_mujoco": ddpg, "pretrain_priors": pretrain}[script].Args,
                     args=flags.split())
    assert len(found) > 20
    for tool in set(re.findall(r"python (tests/assignments/\w+\.py|benchmark/\w+\.py)", text)):
        assert (ROOT / tool).exists(), tool


def test_the_readme_has_no_blank_left_to_fill():
    assert not re.search(r"@[A-Z]+@|TODO|FIXME", README)


def test_the_readme_explains_exactly_what_is_logged():
    text = "".join((ROOT / name).read_text() for name in SCRIPTS)
    logged = set(re.findall(r"\"((?:charts|losses|priors|throughput)/\w+)\"", text))
    logged |= {"charts/episodic_return", "priors/episodic_return"}  # f"{'priors' if ... else 'charts'}/episodic_return"
    logged |= {"losses/td_loss", "losses/q_values", "losses/actor_loss"}
    explained = set(re.findall(r"`((?:charts|losses|priors|throughput)/\w+)`", README.split("## What is logged")[1].split("\n## ")[0]))
    assert logged == explained


def test_deviations_that_the_code_names_are_in_the_readme():
    table = README.split("## Deviations")[1]
    for name in SCRIPTS:
        for match in re.findall(r"Deviations? (\d+(?:, \d+| and \d+)*)", (ROOT / name).read_text()):
            for number in re.findall(r"\d+", match):
                assert f"\n| {number} |" in table, f"Deviation {number} of {name}"


def test_two_arms_are_compared_as_by_hand():
    curve = np.array([[5, 10, 15, 20], [1.0, 3, 2, 4]])
    assert compare.best(curve) == (2, 10) and compare.reached(curve, 2) == 10 and compare.reached(curve, 2.5) == np.inf
    assert compare.mean(curve, 5, 15) == pytest.approx(2.25, abs=1e-3)  # (1 + 3) / 2 and (3 + 2) / 2, half each
    early, late = np.array([[5, 10, 15], [2.0, 2, 2]]), np.array([[5, 10, 15], [1.0, 1, 1]])
    assert compare.to_best([early, early, late], [curve]) == (2, 5, 10)  # two of three have a level of 2 at 5, not at 10
    assert [each.shape for each in compare.curves("reacher_ca2e_second")] == 5 * [(2, 20)]  # without the 20 episodes
    assert len(compare.curves("reacher_ca2e_second,reacher_no_prior8_second")) == 10


@pytest.mark.parametrize("task, arm, other, level, start, medians, p", [
    ("Reacher", "reacher_ca2e_150k", "reacher_no_prior8_150k", -6, 10_000, ("20,000", "95,000"), "0.008"),
    ("Hopper", "hopper_ca2e_300k", "hopper_no_prior8_300k", 2000, 50_000, ("120,000", "140,000"), "0.64"),
    ("InvertedPendulum", "invertedpendulum_ca2e_second", "invertedpendulum_no_prior_second", 950, 0, ("9,000", "11,000"), "0.008"),
    ("InvertedPendulum", "invertedpendulum_ca2e_second", "invertedpendulum_no_prior8_second", 950, 0, ("9,000", "10,000"), "0.10"),
])
def test_the_results_in_the_readme_are_those_of_the_curves(task, arm, other, level, start, medians, p):
    found, results = compare.compare(arm, other, [level], start), README.split("## Results")[1].split("\n## ")[0]
    assert [len(means) for means in found["means"]] == [5, 5]
    assert tuple(f"{1000 * round(np.median(steps[0]) / 1000):,}" for steps in found["reached"]) == medians
    row = next(line for line in results.splitlines() if line.startswith(f"| {task},"))
    assert all(median in row for median in medians) and f"p = {p}" in " ".join(results.split())
    assert f"{found['p']:.{len(p) - 2}f}" == p


@pytest.mark.parametrize("row, arm, other, runs, start, percent", [
    ("Reacher, 150,000 | 5 and 5", "reacher_ca2e_150k", "reacher_no_prior8_150k", (5, 5), 10_000, 2),
    ("Hopper, the first 95,000 | 8 and 8, all after the test was named", "hopper_ca2e_new", "hopper_no_prior8_new", (8, 8), 5_000, 0.2),
    ("Hopper, 300,000 (p from 50,000 on) | 5 and 5", "hopper_ca2e_300k", "hopper_no_prior8_300k", (5, 5), 50_000, 30),
    ("Pong, 250,000 | 3 and 4, the last 2 after the test was named", "pong_ca2e_second", "pong_no_prior8", (3, 4), 26_000, 3),
    ("InvertedPendulum, 30,000 | 5 and 5", "invertedpendulum_ca2e_second", "invertedpendulum_no_prior8_second", (5, 5), 0, 3)])
def test_so_is_the_first_table_of_the_report(row, arm, other, runs, start, percent):
    found = compare.compare(arm, other, [], start)
    assert tuple(len(means) for means in found["means"]) == runs
    low, high = (f"{end:.2f}" if end < np.inf else "never" for end in compare.interval(found["units"]))
    p = f"{found['p']:.3f}" if found["p"] < 0.01 else f"{found['p']:.2f}"
    level, *steps = found["best"]
    level = f"{level:,.{1 if abs(level) < 100 else 0}f}"
    steps = [f"{500 * round(step / 500):,}" for step in steps]
    cells = [cell.strip() for cell in REPORT.split(f"| {row} |")[1].split("|")[:5]]
    assert cells == [level, *steps, f"{found['ratio']:.2f} ({low} to {high})", p]
    chance = compare.shuffled_ratios(*found["arms"])
    as_small, never = 100 * np.mean(chance <= found["ratio"] + 1e-9), 100 * np.mean(np.isinf(chance))
    assert abs(as_small - percent) <= (0.5 if percent > 1 else 0.1) and (round(never) in range(43, 69) or never == 0)
    assert "as small comes up in 2 % of them on Reacher, 0.2 % and 30 % on Hopper, 3 % on Pong and the pendulum" in REPORT


def test_the_report_has_no_p_that_the_details_have_not():
    details = " ".join((ROOT / f"benchmark/{page}.md").read_text() for page in ("details", "trials"))
    found = set(re.findall(r"p = (0\.\d+)", REPORT)) | set(re.findall(r"\| (0\.\d+) \|", REPORT))
    assert len(found) > 12 and found <= set(re.findall(r"\b0\.\d+", details))


def test_so_is_the_start_of_hopper():
    text = (ROOT / "benchmark/details.md").read_text().split("**Early on priors help.**")[1].split("\n![")[0]
    names = "hopper_ca2e_new", "hopper_no_prior8_new"
    new, late = (compare.compare(*names, [1000], start) for start in (5_000, 50_000))
    assert [len(means) for means in new["means"]] == [8, 8] and 1000 * round(new["end"] / 1000) == 95_000
    assert np.mean(new["means"][0]) > np.mean(new["means"][1])
    for name, means, steps, label in zip(names, new["means"], new["reached"], ("five nature and three prior", "eight nature")):
        ends = [float(list(csv.DictReader(file.read_text().splitlines()))[-1]["greedy_mean"]) for file in compare.files(name)]
        cells = ["; ".join("never" if step == np.inf else f"{step / 1000:.0f}" for step in steps[0]),
                 *("; ".join(f"{value:,.0f}" for value in values) for values in (means, ends))]
        assert f"| {label} actors | {' | '.join(cells)} |" in text
    text = " ".join(text.split())
    assert f"**p = {new['p']:.3f}**" in text and f"a window not named, p is {late['p']:.2f}" in text
    low, high = compare.interval(new["units"])
    assert f"takes {new['ratio']:.2f} of the steps ({low:.2f} to never)" in text and high == np.inf
    earlier = [f"hopper_{arm}_second,hopper_{arm}_300k" for arm in ("ca2e", "no_prior8")]
    for start in (5_000, 50_000):
        early = compare.compare(*earlier, [], start, by_seed=True)
        assert [len(means) for means in early["means"]] == [5, 5] and min(early["means"][0]) > max(early["means"][1])
        assert 1000 * round(early["end"] / 1000) == 95_000 and f"(p = {early['p']:.3f}, from 5,000 and from 50,000 on)" in text
    claim = f"priors help early (eight new seeds, to 95,000 steps p = {new['p']:.3f}, named beforehand); to 300,000 no difference is shown"
    assert claim in " ".join(README.split("## Results")[1].split())


def test_so_is_reacher_with_one_step_returns():
    arms = "reacher_ca2e_onestep_150k", "reacher_no_prior8_onestep_150k"
    whole, late, all_five = (compare.compare(*arms, [-6], start) for start in (10_000, 100_000, 0))
    ten, all_ten = (compare.compare(*(f"{arm},trial_{arm[:-5]}" for arm in arms), [], start, by_seed=True) for start in (10_000, 0))
    assert [len(means) for means in ten["means"]] == [5, 5] and 1000 * round(ten["end"] / 1000) == 60_000
    assert [len(means) for means in whole["means"]] == [5, 5] and min(whole["means"][0]) > max(whole["means"][1])
    first = compare.compare(*(f"trial_{arm[:-5]}" for arm in arms), [], 10_000)
    assert 1000 * round(first["end"] / 1000) == 60_000
    assert (f"to 60,000 steps, showed no gain (p = {first['p']:.2f}); five more, of the same seeds, to 150,000 have {whole['p']:.3f} (with "
            f"the first evaluation {all_five['p']:.2f}), from 100,000 on {late['p']:.2f}; all ten to 60,000 {ten['p']:.2f} ({all_ten['p']:.2f}).") in REPORT


def test_so_is_breakout_with_uniform_sampling():
    text = " ".join((ROOT / "benchmark/details.md").read_text().split("\n## Breakout")[1].split("\n## ")[0].split())
    arms = [[",".join(f"trial_breakout_{arm}_{name}" for name in names) for arm in ("ca2e", "no_prior8")]
            for names in (("uniform", "uniform_long"), ("second", "prioritized"))]
    uniform, prioritized = map(",".join, arms)
    early, seeds, late = (compare.compare(uniform, prioritized, [], start, 175_000, by_seed)
                          for start, by_seed in ((26_000, False), (26_000, True), (100_000, False)))
    assert [len(means) for means in early["means"]] == [6, 6] and [len(means) for means in seeds["means"]] == [3, 3]
    assert f"**p = {early['p']:.2f}** (over seeds {seeds['p']:.2f})" in text
    assert "means are {:.1f} and {:.1f} (p = {:.2f}, but".format(*map(np.mean, late["means"]), late["p"]) in text
    for arm, row in zip([*arms[0], *arms[1]], ("uniform, with priors", "uniform, eight", "prioritized (0.6), with priors", "prioritized, eight")):
        runs = sorted(zip(compare.files(arm), compare.curves(arm)), key=lambda pair: int(pair[0].stem.rsplit("_s")[-1]))
        cells = [f"{value:.1f}" for value in np.median([curve[1, :7] for _, curve in runs], 0)]
        cells.append("; ".join(f"{compare.mean(curve, 26_000, 175_000):.1f}" for _, curve in runs))
        assert " ".join(f"| {cell}" for cell in cells) + " |" in text.split(f"| {row}")[1][:120], row
    at_175 = [[curve[1, 6] for curve in compare.curves(arm)] for arm in (uniform, prioritized)]
    assert sum(value > max(at_175[1]) for value in at_175[0]) == 5
    priors = [compare.compare(one, other, [], 26_000, 175_000)["p"] for one, other in [*arms, (",".join(pair) for pair in zip(*arms))]]
    assert "p = {:.2f} with uniform sampling, {:.2f} with prioritization, {:.2f} together".format(*priors) in text
    gpus = "h100_breakout_ca2e,gpu_breakout_ca2e,h100_breakout_no_prior8,gpu_breakout_no_prior"
    long = compare.compare("trial_breakout_ca2e_uniform_long,trial_breakout_no_prior8_uniform_long", gpus, [], 26_000)
    (two, four) = long["means"]
    assert len(four) == 4 and f"means of {two[0]:.1f} and {two[1]:.1f}, the four prioritized ones" in text
    assert f"{min(four):.1f} to {max(four):.1f}: p = {long['p']:.2f}, the least" in text
    late = [np.mean([value for step, value in compare.curves(name)[0].T if 415_000 < step < 480_000]) for name in (
        "pretrain_Breakout_n-step-double-dqn", "h100_breakout_ca2e", "h100_breakout_no_prior8",
        "trial_breakout_ca2e_uniform_long", "trial_breakout_no_prior8_uniform_long")]
    assert "has {:.1f} on average, these two runs {:.1f} and {:.1f}, the two with uniform sampling (below) {:.1f} and {:.1f}.".format(*late) in text
    shown = "the second, which was resumed four times, has {0:.0f}; CA2E that samples uniformly, too, {3:.0f} and {4:.0f} (with and without priors, one seed), prioritized {1:.0f} and {2:.0f}"
    assert shown.format(*late) in " ".join(REPORT.split())
    without = compare.compare("trial_breakout_ca2e_uniform_long,trial_breakout_no_prior8_uniform_long", gpus.rsplit(",", 1)[0], [], 26_000)
    assert f"the one that has five actors {without['p']:.2f}, the least again" in text
    assert f"run by run {without['p']:.2f}, the least; with the fourth {long['p']:.2f}" in REPORT


def test_so_is_breakout_from_one_trained_agent():
    trials = " ".join((ROOT / "benchmark/trials.md").read_text().split())
    details = " ".join((ROOT / "benchmark/details.md").read_text().split())
    found = compare.compare("trial_breakout_warm_uniform", "trial_breakout_warm_asis", [], 540_000, 590_000)
    assert [len(means) for means in found["means"]] == [4, 4]
    ends = []
    for arm, row, means in zip(("uniform", "asis"), ("uniform", "prioritized, as it is"), found["means"]):
        ends.append([float(list(csv.DictReader(open(path)))[-1]["greedy_mean"]) for path in compare.files(f"trial_breakout_warm_{arm}")])
        cells = ["; ".join(f"{value:.1f}" for value in values) for values in (means, ends[-1])]
        assert f"| {row} | {cells[0]} | {cells[1]} |" in trials
    for page in (trials, details, REPORT):
        assert any(f"{found['p']:.2f}, the least" in part[:120] for part in page.split("from one trained agent")[1:])
    starts = [curve[1, 0] for curve in compare.curves("trial_breakout_warm_uniform,trial_breakout_warm_asis")]
    assert f"({min(starts):.1f} to {max(starts):.1f} in the first evaluations" in trials
    assert min(found["means"][0]) > max(found["means"][1])
    p = compare.permutation_p(*ends)
    assert f"no difference is shown (p = {p:.2f}; not named)" in trials and f"no difference is shown ({p:.2f}) |" in REPORT


def together(found):
    """p of two comparisons as one, shuffled only within each; the numbers of shuffles of each; whether it is the least."""
    sums = []
    for each in found:
        pool, n = sum(each["means"], []), len(each["means"][0])
        sums.append([sum(ones) / n - (sum(pool) - sum(ones)) / (len(pool) - n) for ones in itertools.combinations(pool, n)])
    shuffles = np.abs(np.add.outer(*sums)).ravel()  # the first: as it was
    return np.mean(shuffles >= shuffles[0] - 1e-9), [len(each) for each in sums], shuffles[0] == shuffles.max()


EIGHT = "gpu_pong_ca2e,h100_pong_ca2e,pong_ca2e_second", "h100_pong_no_prior8,pong_no_prior8"


def test_so_is_uniform_sampling_on_pong():
    arms = list(zip(("pong_uniform", "pong_uniform_no_prior8"), EIGHT))
    report = " ".join((ROOT / "benchmark/details.md").read_text().split())
    found = [compare.compare(*arm, [], 26_000, 200_000) for arm in arms]
    both, runs, _ = together(found)
    over_seeds, seeds, least = together([compare.compare(*arm, [], 26_000, 200_000, by_seed=True) for arm in arms])
    assert runs == [36, 21] and seeds == [10, 15] and least  # two of nine and of seven runs; two of five and of six seeds
    assert f"p = {found[0]['p']:.2f}, the least" in report and f"p = {found[1]['p']:.2f}, the least" in report
    assert f"all four against all twelve, shuffled only among runs with priors and among those without: p = {both:.3f}" in report
    assert f"(two against three, two against four) p = {over_seeds:.3f}, the least again" in report
    assert f"`--per-alpha 0`, is worse on Pong (p = {over_seeds:.3f}, not named; all four below all twelve)" in " ".join(README.split())


def test_so_are_sixteen_samples_an_insert_on_pong():
    whole = (ROOT / "benchmark/details.md").read_text()
    text = whole.split("**Twice as many samples an insert make")[1].split("\n![")[0]
    report, sixteen = " ".join(text.split()), ("pong_spi16,pong_spi16_third", "pong_spi16_no_prior8,pong_spi16_no_prior8_third")
    arms, own = list(zip(sixteen, EIGHT)), list(zip(sixteen, ("pong_ca2e_second", "pong_no_prior8")))
    found, by_seed, own = ([compare.compare(*arm, [], 26_000, 125_000, by_seed) for arm in pairs]
                           for pairs, by_seed in ((arms, False), (arms, True), (own, True)))
    for each, start, runs in zip(found, ("With priors {0:.1f}, {1:.1f} and {2:.1f}, the seven", "Without priors {0:.1f}, {1:.1f} and {2:.1f}, the five"), (7, 5)):
        ones, others = each["means"]
        assert min(ones) > max(others) and len(others) == runs
        p = f"{each['p']:.3f}" if each["p"] < 0.01 else f"{each['p']:.2f}"
        assert f"{start.format(*ones)} with 8 are {min(others):.1f} to {max(others):.1f}: p = {p}, the least" in report
    assert [f"{each['p']:.2f}" for each in by_seed] == [f"{each['p']:.2f}" for each in own] == ["0.10", "0.03"]
    assert "the three on two cores alone, 0.10, the least again" in report and "the four on two cores alone, 0.03, the least again" in report
    one, seeds, least = together(by_seed)
    assert seeds == [20, 35] and least and together(own) == (one, seeds, least)
    assert f"p = {one:.3f} over means of each seed, the least again, and the same on two cores alone" in report
    assert f"**Pong is faster in steps** (p = {one:.3f}, on two cores alone, too; both arms together: shuffled only among" in REPORT
    assert f"`--samples-per-insert 16` saves Pong steps (p = {one:.3f}, both arms together)" in " ".join(README.split())
    (one, two), (three, four) = compare.compare("pong_spi16", "pong_spi16_no_prior8", [], 26_000, 175_000)["means"]
    assert min(one, two) > max(three, four)
    assert f"both runs with them, {one:.1f} and {two:.1f}, are above both without, {three:.1f} and {four:.1f}" in report
    priors = compare.compare(*sixteen, [], 26_000, 125_000)
    assert priors["means"][0][2] < priors["means"][1][2] and f"to 125,000 steps p = {priors['p']:.2f}, three seeds each" in report
    table = [[cell.strip() for cell in row.split("|")[2:-1]] for row in text.split("\n- ")[0].splitlines()
             if row.startswith(("| 16", "| seed"))]
    assert table == [[f"{value:.1f}" for value in curve[1]] + [""] * (7 - len(curve[1])) for arm in sixteen for curve in compare.curves(arm)]


@pytest.mark.parametrize("task, arm, level, seeds, median", [
    ("Pong", "pong_distill", 18, 3, "50,000"), ("Hopper", "hopper_distill", 2000, 5, "25,000"),
    ("Reacher", "reacher_distill", -6, 5, "20,000"), ("InvertedPendulum", "invertedpendulum_distill", 950, 5, "9,000")])
def test_so_are_those_with_a_teacher(task, arm, level, seeds, median):
    steps = [compare.reached(curve, level) for curve in compare.curves(arm)]
    row = next(line for line in README.split("## Results")[1].splitlines() if line.startswith(f"| {task},"))
    assert len(steps) == seeds and f"{1000 * round(np.median(steps) / 1000):,}" == median
    assert row.split("|")[4].strip().startswith(f"{median} (")


def test_so_are_twice_as_many_samples_an_insert_on_hopper():
    text = " ".join((ROOT / "benchmark/details.md").read_text().split("**Twice as many samples an insert** (`--samples-per-insert 256`")[1].split("\n\n")[0].split())
    found = compare.compare("hopper_spi256_ca2e", "hopper_ca2e_new", [1000], 5_000, 95_000)
    ones, others = found["means"]
    assert len(others) == 8 and "steps {:.0f}, {:.0f}, {:.0f} and {:.0f}, beside".format(*ones) in text
    assert f"({min(others):.0f} to {max(others):,.0f}) p = {found['p']:.2f}, the test" in text
    assert "1,000 reached at {:,}, {:,}, {:,} and {:,}.".format(*(round(step / 1000) * 1000 for step in found["reached"][0][0])) in text


def test_so_is_reacher_with_a_teacher_to_100_000_steps():
    text = " ".join((ROOT / "benchmark/details.md").read_text().split("Five more runs, of the same seeds,")[1].split("\n\n")[0].split())
    found, none = (compare.compare("reacher_distill_100k", arm, [-5, -4], 10_000, 95_000, by_seed=True) for arm in REACHER)
    means = [compare.mean(curve, 10_000, 95_000) for curve in compare.curves("reacher_distill_100k")]
    final = [float(list(csv.DictReader(file.open()))[-1]["greedy_mean"]) for file in compare.files("reacher_distill_100k")]
    assert "They are {:.2f}, {:.2f}, {:.2f}, {:.2f} and {:.2f}: to".format(*means) in text
    assert f"no difference is shown (p = {found['p']:.2f})" in text and f"are worse (p = {none['p']:.3f}, the least)" in text
    assert "have {:.1f}, {:.1f}, {:.1f}, {:.1f} and {:.1f}.".format(*final) in text and min(means) > max(none["means"][1])
    steps = [[compare.reached(curve, level) for level in (-5, -4)] for curve in compare.curves("reacher_distill_100k")]
    assert [round(median, -3) for median in np.median(steps, 0)] == [45_000, np.inf] and np.isinf([four for _, four in steps]).all()
    assert "-5 is reached at a median of 45,000 steps, -4 never;" in text


@pytest.mark.parametrize("task, start, end, digits, claim", [
    ("hopper", 5_000, 55_000, 0, "55,000 steps {0}, {1}, {2}, {3} and {4}, beside {5}, {6}, {7}, {8} and {9} with them: no gain"),
    ("reacher", 10_000, 60_000, 2, "means {0}, {1}, {2}, {3} and {4}: nor is a gain by prior actors shown here (p = {p:.2f};")])
def test_so_is_the_teacher_without_prior_actors(task, start, end, digits, claim):
    found = compare.compare(f"{task}_teacher", f"{task}_distill", [], start, end)
    details, means = " ".join((ROOT / "benchmark/details.md").read_text().split()), [f"{mean:,.{digits}f}" for mean in sum(found["means"], [])]
    assert claim.format(*means, p=found["p"]) in details
    assert re.search(rf"prior actors are not shown to help \([^)]*{found['p']:.2f}", REPORT)


def test_so_is_pong_with_and_without_priors():
    arms = "gpu_pong_ca2e,h100_pong_ca2e,pong_ca2e_second", "pong_no_prior8,h100_pong_no_prior8"
    priors, none = ([compare.reached(curve, 18) for curve in compare.curves(arm)] for arm in arms)
    # the first of the GPU's has one evaluation above 18, its last
    assert [round(step, -3) for step in priors] == [np.inf, 175_000, 225_000, 175_000, 200_000, 250_000, 250_000]
    assert [round(step, -3) for step in none] == [np.inf, np.inf, 225_000, np.inf, np.inf]
    results = " ".join(README.split("## Results")[1].split("\n## ")[0].split())
    report = " ".join((ROOT / "benchmark/details.md").read_text().split())
    assert "| three of three runs: 200,000 to 250,000 | one of four: 225,000 |" in results  # two cores: the last of both
    assert "18 is reached on two cores by three of three runs with priors (at 200,000, 250,000 and 250,000), one of four without (225,000); on GPUs by three of four, and not by" in REPORT
    found, own = compare.compare(*arms, [18], 26_000), compare.compare("pong_ca2e_second", "pong_no_prior8", [18], 26_000)
    assert [len(means) for means in own["means"]] == [3, 4]
    seeds = compare.compare(*arms, [], 26_000, by_seed=True)
    assert [len(means) for means in seeds["means"]] == [3, 4] and f"{own['p']:.2f}" == f"{seeds['p']:.2f}" == "0.09"
    assert "**Pong**: priors may help (p = 0.09; with the GPU runs the same)" in results
    # shuffled only within a machine: the H100's one run of each arm; two cores' three against four
    (one, two, three, h100, a, b, c), (h100_none, *none) = found["means"]
    cores = [a, b, c, *none]
    gaps = [sum(some) / 3 - (sum(cores) - sum(some)) / 4 for some in itertools.combinations(cores, 3)]
    shuffles = [abs(gap + sign * (h100 - h100_none)) for gap in gaps for sign in (1, -1)]  # the first: as it was
    within = np.mean(np.array(shuffles) >= shuffles[0] - 1e-9)
    assert f"Shuffled only within a machine (two cores, H100): p = {within:.2f} (" in report
    by_hand = [[(one + h100 + a) / 3, (two + b) / 2, (three + c) / 2], [(h100_none + none[0]) / 2, *none[1:]]]
    assert [pytest.approx(means) for means in seeds["means"]] == by_hand
    assert (f"All together: p = {seeds['p']:.2f} over means of each seed (three against four;" in report
            and f"Were each run a seed, it would be {found['p']:.3f}" in report)
    files = [ROOT / f"benchmark/results/h100_breakout_{arm}_s1.csv" for arm in ("ca2e", "no_prior8")]
    final = [list(csv.DictReader(file.read_text().splitlines()))[-1]["greedy_mean"] for file in files]
    assert f"one GPU run each: {final[0]} with priors, {final[1]} without" in results


ALL, TD3, HOPPER = (0, None), "rival_td3_Hopper-v5", ("hopper_ca2e_300k", "hopper_no_prior8_300k")
PPO_REACHER = "below all five runs with priors and all five without (means {0:.0f}, {1:.0f} and {2:.0f}, p = {p:.3f} each)"
REACHER = [f"reacher_{arm}_150k,reacher_{arm}_second" for arm in ("ca2e", "no_prior8")]


@pytest.mark.parametrize("arm, runs, other, start, end, claims", [
    ("rival_ppo_Hopper-v5", ALL, HOPPER[0], 50_000, np.inf, "{0:.0f}, {1:,.0f} and {2:,.0f}; p = {p:.2f})"),
    ("rival_ppo_Reacher-v5", ALL, "reacher_ca2e_150k", 10_000, np.inf, PPO_REACHER),
    ("rival_ppo_Reacher-v5", ALL, "reacher_no_prior8_150k", 10_000, np.inf, PPO_REACHER),
    ("rival_td3_Reacher-v5", ALL, "reacher_ca2e_150k", 10_000, 80_000,
     "means {0:.1f}, {1:.1f} and {2:.1f}, below all five of CA2E ({low:.1f} to {high:.1f}, p = {p:.3f})"),
    ("rival_td3_Reacher-v5", ALL, "reacher_no_prior8_150k", 10_000, 80_000,
     "above all five without priors ({low:.1f} to {high:.1f}, p = {p:.3f})"),
    ("rival_ddpg_Reacher-v5", ALL, REACHER[1], 10_000, 65_000,
     "means {0:.1f}, {1:.1f} and {2:.1f}, above all ten of our runs without priors ({low:.1f} to {high:.1f}, p = {seeds:.3f} over seeds)"),
    ("rival_ddpg_Reacher-v5", ALL, "reacher_no_prior8_onestep_150k", 10_000, np.inf, "no difference is shown (p = {p:.2f}), nor to CA2E's ten"),
    ("rival_ddpg_Reacher-v5", ALL, REACHER[0], 10_000, np.inf, "nor to CA2E's ten (p = {seeds:.2f};"),
    ("rival_ddpg_Hopper-v5", ALL, "hopper_ca2e_second,hopper_ca2e_300k", 5_000, 75_000, "means of {0:.0f}, {1:.0f}, {2:.0f}, {3:.0f}, {4:.0f} and {5:.0f},"
     " below those of all five seeds of CA2E ({least:.0f} to {most:.0f}, p = {seeds:.3f}, the least)"),
    ("rival_ddpg_Hopper-v5", ALL, "hopper_no_prior8_second,hopper_no_prior8_300k", 5_000, 75_000,
     "no difference is shown ({least:.0f} to {most:.0f}, p = {seeds:.2f})"),
    ("rival_ddpg_Hopper-v5", (3, 6), HOPPER[0], 50_000, 295_000,
     "they have {0:.0f}, {1:.0f} and {2:.0f}, below all five of CA2E ({low:,.0f} to {high:,.0f}, p = {p:.3f}, the least)"),
    ("rival_ddpg_Hopper-v5", (3, 6), HOPPER[1], 50_000, 295_000, "no difference is shown ({low:.0f} to {high:,.0f}, p = {p:.2f})"),
    ("rival_ddpg_noise_Hopper-v5", ALL, "rival_ddpg_Hopper-v5", 5_000, 70_000, "have {0:.0f} and {1:.0f} from 5,000 on: to the six without no difference is shown (p = {p:.2f})"),
    ("rival_ddpg_noise_Hopper-v5", ALL, "hopper_ca2e_second,hopper_ca2e_300k", 5_000, 70_000,
     "they are below all five seeds of CA2E ({least:.0f} to {most:.0f}, p = {seeds:.2f}, the least)"),
    ("rival_ddpg_noise_Hopper-v5", ALL, "hopper_no_prior8_second,hopper_no_prior8_300k", 5_000, 70_000,
     "no difference is shown ({least:.0f} to {most:.0f}, p = {seeds:.2f})"),
    ("rival_td3_noise_Hopper-v5", ALL, TD3, 50_000, 175_000,
     "{0:.0f} and {1:.0f} (without noise {low:.0f}, 821, 693 and {high:,.0f}, p = {p:.2f})"),
    ("rival_td3_noise_Hopper-v5", ALL, HOPPER[0], 50_000, 175_000,
     "below all five of CA2E ({low:,.0f} to {high:,.0f}, p = {p:.2f}, the least that two against five can show)"),
    ("rival_td3_noise_Hopper-v5", ALL, HOPPER[1], 50_000, 175_000, "no difference is shown ({low:.0f} to {high:,.0f}, p = {p:.2f})"),
    (TD3, (0, 3), HOPPER[0], 50_000, 200_000,
     "seeds 1 to 3 have means of {0:.0f}, {1:,.0f} and {2:.0f}, below all five of CA2E ({low:,.0f} to {high:,.0f}, p = {p:.2f})"),
    (TD3, (0, 3), HOPPER[1], 50_000, 200_000, "no difference is shown ({low:.0f} to {high:,.0f}, p = {p:.2f})"),
    (TD3, ALL, HOPPER[0], 50_000, 200_000, "with it, {3:,.0f}, p is {p:.2f}"),
    (TD3, ALL, HOPPER[1], 50_000, 200_000, "(eight nature actors {p:.2f})"),
    (TD3, (1, 4), HOPPER[0], 50_000, 295_000, "({0:,.0f}, {1:,.0f} and {2:,.0f}) and CA2E (p = {p:.2f})"),
    (TD3, (1, 4), HOPPER[1], 50_000, 295_000, "or eight nature actors (p = {p:.2f})"),
    (TD3, (1, 4), HOPPER[0], 200_000, 295_000,
     "({0:,.0f}, {1:,.0f} and {2:,.0f}) are above all five of CA2E ({low:,.0f} to {high:,.0f}, p = {p:.2f})"),
    (TD3, (1, 4), HOPPER[1], 200_000, 295_000, "to eight nature actors no difference is shown (p = {p:.2f})"),
    (TD3, (3, 4), HOPPER[0], 200_000, 295_000, "alone it has p = {p:.2f}, the least"),
    ("rival_dqn_PongNoFrameskip-v4", (1, 4), "pong_ca2e_second", 26_000, 200_000,
     "All three have {0:.1f}, below our three on two cores ({low:.1f} to {high:.1f}, p = {p:.2f}, the least possible)"),
    ("rival_dqn_PongNoFrameskip-v4", (1, 4), "gpu_pong_ca2e,h100_pong_ca2e,pong_ca2e_second", 26_000, 200_000, "all seven (p = {p:.3f}, the least;"),
    ("rival_dqn_PongNoFrameskip-v4", (1, 4), "pong_no_prior8,h100_pong_no_prior8", 26_000, 200_000,
     "({low:.1f} to {high:.1f}, p = {p:.3f}, the least)")])
def test_so_are_the_rivals(arm, runs, other, start, end, claims):
    arms = [compare.curves(arm)[slice(*runs)], compare.curves(other)]
    end = min(end, *(curve[0, -1] for curve in sum(arms, [])))
    start = max(start, *(curve[0, 0] for curve in sum(arms, [])))
    ones, others = ([compare.mean(curve, start, end) for curve in each] for each in arms)
    by_seed = compare.compare(arm, other, [], start, end, by_seed=True)
    claim = claims.format(*ones, low=min(others), high=max(others), p=compare.permutation_p(ones, others), seeds=by_seed["p"],
                          least=min(by_seed["means"][1]), most=max(by_seed["means"][1]))
    assert claim in " ".join((ROOT / "benchmark/details.md").read_text().split("## Rivals")[1].split("\n## ")[0].split())
    if "below all" in claim or "All three" in claim:
        assert max(ones) < min(others)
    if "above all" in claim:
        assert min(ones) > max(others)


def test_what_compare_prints_by_hand(tmp_path, monkeypatch, capsys):
    def curve(name, values):
        rows = [f"{10 * (i + 1)},{value},1" for i, value in enumerate(values)]
        (tmp_path / f"{name}.csv").write_text("\n".join(["step,greedy_mean,greedy_std", *rows, f"{10 * len(values)},99,"]))

    for seed in range(1, 6):
        curve(f"one_s{seed}", [0] * (seed - 1) + [4] * (7 - seed))  # at 4 from 10 * seed on
    curve("other_s1", [0, 0, 0, 0, 4, 4])
    curve("other_s2", [0, 0, 0, 0, 4, 4, 9, 9])  # longer: its end does not count
    monkeypatch.setattr(compare, "RESULTS", tmp_path)
    compare.main("one", "other", levels="4,9")
    *shown, chance = capsys.readouterr().out.splitlines()
    assert shown == [
        "from 10 to 60 steps", "one: means 4.00; 3.60; 2.80; 2.00; 1.20",
        "    4 reached at 10; 20; 30; 40; 50; median 30", "    9 reached at inf; inf; inf; inf; inf; median inf",
        "other: means 1.20; 1.20", "    4 reached at 50; 50; median 50", "    9 reached at inf; inf; median inf",
        "p 0.238; the second's best, 4, at 30 and 50: ratio 0.60 (0.20 to 1.00)"]  # 5 of 21 splits
    share, never = re.findall(r"([\d.]+)%", chance)
    assert abs(float(share) - 100 * 3 / 21) < 3 and never == "0"  # 3 of 21 pairs of runs leave three at 30 and have 50
    for name in ("ten_s10", "ten_s9", "ten_s9_again", "ten_second_s1"):  # seeds of two digits count, in their order
        curve(name, [0, 0])
    assert [path.stem for path in compare.files("ten")] == ["ten_s9", "ten_s10"]
    assert compare.groups("ten,other", by_seed=True) == [[0], [1], [2], [3]] and len(compare.curves("ten")) == 2
    curve("more_s1", [0, 0, 0, 0, 0, 0])
    curve("more_s3", [9, 9, 9, 9, 9, 9])
    found = compare.compare("other,more", "one", [], 0, by_seed=True)
    assert found["means"] == [pytest.approx(each, abs=2e-3) for each in ([0.6, 1.2, 9], [4, 3.6, 2.8, 2, 1.2])]  # (1.2 + 0) / 2
    rng = np.random.default_rng(0)
    draws = [compare.drawn([[1, 2], [3]], rng) for _ in range(100)]  # two units, and of the first, each time, two runs
    assert {len(draw) for draw in draws} == {2, 3, 4} and [3, 3] in draws and any(draw[:2] == [1, 1] for draw in draws)
    found = compare.compare("one", "other", [4], 0, 40)
    assert found["end"] == 40 and found["means"][1] == [0, 0] and found["reached"][0][0][3] == np.inf
