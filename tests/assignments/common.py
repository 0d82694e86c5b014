"""What blank.py, grade.py, hunt.py and the graders share: the concepts, surgery on source, messages."""

import ast
import contextlib
import copy
import functools
import importlib.util
import os
import sys
from pathlib import Path

import numpy as np

if os.name == "nt":
    sys.exit("error: on Windows this runs in WSL; tests/assignments/README.md says how")

ROOT = Path(__file__).parents[2]
DQN, DDPG = "ca2e_dqn_atari.py", "ca2e_ddpg_mujoco.py"


def both(name: str, first: str = DDPG) -> dict[str, str]:
    return {script: name for script in (first, DQN if first == DDPG else DDPG)}


# Each concept, and the function to write in each script; blank.py takes the script that is named first.
CONCEPTS = {
    "n_step_return": both("n_step_return"),
    "importance_weights": both("importance_weights"),
    "td_target": both("td_target", DQN),
    "surpassed": both("surpassed"),
    "actor_loss": {DDPG: "actor_loss"},
    "stack_frames": {DQN: "gather.stack_frames"},
    "exploration": {DQN: "epsilon_of", DDPG: "noise_of"},
    "sum_tree": both("SumTree.find"),
    "first_priorities": both("first_priorities", DQN),
    "soft_update": both("soft_update"),
    "receive": both("receive"),
    "actor": both("actor"),
    "learner": both("learner"),
}


# ---------------------------------------------------------------------------------------------------- Source
parsed = functools.lru_cache(8)(ast.parse)


def find_function(source: str, name: str) -> ast.FunctionDef | None:
    """The function of that name, dotted where it stands in a class or a function; None: it is not there."""
    node = parsed(source)
    for part in name.split("."):
        kinds = (ast.FunctionDef, ast.ClassDef)
        node = next((child for child in node.body if isinstance(child, kinds) and child.name == part), None)
        if node is None:
            return None
    return node


def replace_body(source: str, name: str, body: str) -> str:
    """source with another body in that function; its decorators, signature and docstring stay."""
    function, lines = find_function(source, name), source.splitlines()
    first = function.body[0]
    if ast.get_docstring(function) is not None and len(function.body) > 1:
        first = function.body[1]
    indent = " " * first.col_offset
    return "\n".join([*lines[:first.lineno - 1], *(indent + line if line else "" for line in body.splitlines()),
                      *lines[function.end_lineno:], ""])


def scripts_in(path: Path) -> list[Path]:
    """The scripts of a student's folder, or the one script that path is."""
    return [path] if path.is_file() else [path / name for name in (DQN, DDPG) if (path / name).is_file()]


def import_script(path: Path):
    """A script as a module of its own, whatever others of its name are imported already."""
    name = str(path)
    spec = importlib.util.spec_from_file_location(name, path)
    sys.modules[name] = module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    finally:
        del sys.modules[name]
    return module


@functools.cache
def reference_of(script: str):
    return import_script(ROOT / script)


# --------------------------------------------------------------------------------------------- A real replay
@contextlib.contextmanager
def real(student, own: str):
    """(args, agent, replay, store, board, `act`, which lets actors deliver) of a small run, for the student's `own` function.

    All other assigned functions are, meanwhile, the reference's: some may not be written yet.
    """
    import torch  # here, since blank.py needs none of it

    torch.set_num_threads(1)  # as `main` and `run_child` do
    script = DQN if hasattr(student, "QNetwork") else DDPG
    names = {CONCEPTS[concept][script].split(".")[0] for concept in CONCEPTS if script in CONCEPTS[concept] and concept != own}
    before, reference = {name: getattr(student, name) for name in names if hasattr(student, name)}, reference_of(script)
    for name in names:
        setattr(student, name, getattr(reference, name))
    try:
        task, prior = ("PongNoFrameskip-v4", "dqn") if script == DQN else ("InvertedPendulum-v5", "ddpg")
        args = student.Args(env_id=task, total_timesteps=1000, buffer_size=1000, learning_starts=12, local_buffer_size=6,
                            batch_size=4, num_nature_actors=1, num_prior_actors=1, samples_per_insert=1, publish_frequency=2)
        env = student.make_atari(task) if script == DQN else student.make_control(task)
        agent = (student.DQN if script == DQN else student.DDPG)(args, env, torch.device("cpu"))
        sizes = [sum(tensor.numel() for tensor in net.parameters()) for net in (agent.online, agent.average)]
        memory = student.shared_memory(student.store_fields(env), args.capacity), student.shared_memory([
            ("version", int), ("global_step", int), ("allowed_step", int),
            ("newest", np.float32, sizes[:1]), ("average", np.float32, sizes[1:])])
        store, (board,) = (np.frombuffer(arena.buffer, dtype) for arena, dtype in memory)
        student.publish(board, agent.online, agent.average)
        replay = student.PrioritizedReplay(args, {"global_step": 0, "prior_steps": 0, "evaluations": []})

        def act():
            """Two blocks of a nature actor, then of a prior actor."""
            for index, file in enumerate((None, str(ROOT / "priors" / task / f"{prior}.pt"))):
                turns = student.actor(args, index, file, replay, store, board)
                for _ in range(3):
                    next(turns)

        yield args, agent, replay, store, board, act
    finally:
        for name, value in before.items():
            setattr(student, name, value)


# --------------------------------------------------------------------------------------------------- Messages
def numbers() -> np.random.Generator:
    """The numbers of a grader's examples; GRADE_SEED=7 in the environment gives others."""
    return np.random.default_rng(int(os.environ.get("GRADE_SEED", "0")))


NONE = "It returned None: is there a return?"


def plain(value):
    """Arrays, tensors and numbers as an array of float64; None if value is none of them."""
    try:
        value = value.detach() if hasattr(value, "detach") else value
        return np.asarray(value, np.float64)
    except (TypeError, ValueError, RuntimeError):
        return None


def shown(value) -> str:
    """A value as a message shows it."""
    array = plain(value)
    if array is None:
        return repr(value)[:80]
    return f"{array:.6g}" if array.ndim == 0 else np.array2string(array, precision=4, separator=", ", threshold=40)


def same(one, other) -> bool:
    one, other = plain(one), plain(other)
    return one.shape == other.shape and np.allclose(one, other, rtol=1e-4, atol=1e-5, equal_nan=True)


@contextlib.contextmanager
def unchanged(**given):
    """Fails if a list, array or tensor that a student's function is given changes meanwhile; by name, in a sentence."""
    before = copy.deepcopy(given)
    yield
    for name, value in given.items():
        assert same(value, before[name]), f"It changed {name}, which others need as it was: work on a copy."


def expect(actual, right, what: str, wrong: dict | None = None) -> None:
    """Fails unless actual is right, in sentences: what came, what is right, and which mistake gives what came.

    wrong maps a sentence on each known mistake to the value that one gets by it.
    """
    assert actual is not None, NONE
    array = plain(actual)
    assert array is not None, f"{what} is {shown(actual)}, which is neither a number nor an array."
    if not same(actual, right):
        hint = next((sentence for sentence, value in (wrong or {}).items() if same(array, value)), "")
        if not hint and array.shape != plain(right).shape:
            hint = f"Its shape is {array.shape}, where {plain(right).shape} is meant."
        what = what.replace("the ", "The ", 1) if what.startswith("the ") else what
        raise AssertionError(f"{what} is {shown(actual)}, where {shown(right)} is right. {hint}".strip())
