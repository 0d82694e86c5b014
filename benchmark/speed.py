"""Speed and memory of the CA2E scripts on this machine, against their own limits and side by side with others.

    pip install -r benchmark/requirements.txt
    python benchmark/speed.py dqn        # 12 minutes; benchmark/results/speed_dqn_atari.csv
    python benchmark/speed.py ddpg       # 6 minutes; benchmark/results/speed_ddpg_mujoco.csv
    python benchmark/speed.py scaling    # 8 minutes; benchmark/results/scaling.csv and scaling.png
    python benchmark/speed.py replay     # 3 minutes; benchmark/results/speed_replay.csv
    python benchmark/speed.py editions dqn OTHER     # 10 minutes; steps/s here against those of another checkout

DQN: everyone trains Pong at 8 samples an insert (batch 32, every 4 steps), the same network (layer norm included),
epsilon at its final value. DDPG: Hopper-v5 at one update (batch 128) a step, the same networks (64-64, layer norm,
ReLU). No evaluation; in turn, A B A B, so that a ratio holds when the machine's speed drifts. Ours also computes
priorities and importance weights, and, in DQN, the double-Q target (one more forward pass), which the others do not.
`replay` needs torchrl, which at the time of writing has no build for the pinned torch: set TORCHRL_PYTHON to the
interpreter of an environment that holds both.
"""

import csv
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "benchmark" / "results"
sys.path.insert(0, str(ROOT))
import ca2e_ddpg_mujoco as ddpg  # noqa: E402
import ca2e_dqn_atari as dqn  # noqa: E402

ROUNDS, SECONDS, WARM, CORES = 2, 30, 5, os.cpu_count()
CPU = torch.device("cpu")
SCRIPTS = {"dqn": "ca2e_dqn_atari", "ddpg": "ca2e_ddpg_mujoco"}
COMMON = ["--learning-starts", "1000", "--eval-frequency", "100000000", "--buffer-size", "100000", "--total-timesteps",
          "100000000", "--prior-dir", str(ROOT / "priors")]
DQN_FLAGS = ["--exploration-steps", "1"]

# A script as it is, with a clock around what its learner does: prints a line of JSON after WARM + SECONDS of learning.
PIPELINE = f"""
import json, os, sys, time
sys.path.insert(0, {str(ROOT)!r})
import SCRIPT as ca2e
launched, spent = float(sys.argv.pop(1)), dict.fromkeys(("update", "manager call", "gather", "publish", "held"), 0.0)
def timed(name, call):
    def wrapper(*args):
        start = time.perf_counter()
        result = call(*args)
        spent[name] += time.perf_counter() - start
        return result
    return wrapper
class Replay:
    def __init__(self, replay):
        self.sample = timed("manager call", replay.sample)
original, ca2e.gather, ca2e.publish = ca2e.learner, timed("gather", ca2e.gather), timed("publish", ca2e.publish)
cores = os.sched_getaffinity(0)
if OWN_CORE:  # the children inherit the other cores
    os.sched_setaffinity(0, cores - {{min(cores)}} or cores)
def learner(args, agent, replay, store, board):
    if OWN_CORE:
        os.sched_setaffinity(0, {{min(cores)}})
    agent.update = timed("update", agent.update)
    working = first = base = None
    rings = store["k"][: args.num_actors * args.ring_size].reshape(args.num_actors, -1)[:, :200]
    for state, events, metrics, updates in original(args, agent, Replay(replay), store, board):
        now, step = time.time(), state["global_step"]
        if working is None and (rings > 0).any(axis=1).all():
            working = now - launched  # every actor has delivered its first block
        if first is None and updates:
            first = now
        if first and now - first > {WARM} and working and base is None:
            base = now, step, agent.updates, dict(spent)
        if base and now - base[0] > {SECONDS}:
            wall = now - base[0]
            shares = {{name: (spent[name] - base[3][name]) / wall for name in spent}}
            print(json.dumps({{"steps/s": (step - base[1]) / wall, "updates/s": (agent.updates - base[2]) / wall,
                              "start-up": working, **shares}}), flush=True)
            sys.exit(0)
        start = time.perf_counter()
        yield state, events, metrics, updates
        if updates == 0:
            spent["held"] += time.perf_counter() - start
ca2e.learner = learner
ca2e.main(ca2e.parse())
"""


def pipeline(kind, *flags, own_core=False):
    """A whole run: steps/s, updates/s, seconds to start, and the shares of the learner's time.

    own_core: the learner computes on one core, and nobody else does.
    """
    script = PIPELINE.replace("SCRIPT", SCRIPTS[kind]).replace("OWN_CORE", str(own_core))
    with tempfile.TemporaryDirectory() as folder:
        process = subprocess.run(
            [sys.executable, "-u", "-c", script, str(time.time()), *COMMON,
             *(DQN_FLAGS if kind == "dqn" else []), *flags],
            cwd=folder, capture_output=True, text=True,
            env={**os.environ, "OMP_NUM_THREADS": str(1 if own_core else CORES)})
    found = [line for line in process.stdout.splitlines() if line.startswith("{")]
    if not found:
        sys.exit(process.stdout + process.stderr)
    return json.loads(found[-1])


def theirs(*arguments, python=sys.executable):
    """What others.py prints last."""
    process = subprocess.run([python, "-W", "ignore", str(ROOT / "benchmark" / "others.py"), *map(str, arguments)],
                             capture_output=True, text=True)
    if process.returncode:
        sys.exit(process.stderr[-2000:])
    return json.loads(process.stdout.splitlines()[-1])


def editions(kind, other):
    """Steps/s of this checkout over those of another (of any edition), by turns; their own progress lines are read."""
    import re

    script, found = f"{SCRIPTS[kind]}.py", {str(ROOT): [], other: []}
    for turn in range(4):
        for root, rates in found.items():
            with tempfile.TemporaryDirectory() as folder:
                flags = COMMON[:-1] + [f"{Path(root).resolve()}/priors"] + (DQN_FLAGS if kind == "dqn" else [])
                process = subprocess.Popen([sys.executable, "-u", f"{Path(root).resolve()}/{script}", *flags], cwd=folder,
                                           stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
                lines = []  # time and step of the progress lines, from the second one with updates on
                for line in process.stdout:
                    if match := re.match(r"step ([\d,]+) of .*?([\d,]+) updates/s", line):
                        if int(match[2].replace(",", "")):
                            lines.append((time.time(), int(match[1].replace(",", ""))))
                        if len(lines) > 1 and lines[-1][0] - lines[1][0] >= SECONDS:
                            break
                process.terminate()
                process.communicate()
            rates.append((lines[-1][1] - lines[1][1]) / (lines[-1][0] - lines[1][0]))
            print(f"{kind}, round {turn + 1}, {root}: {rates[-1]:.1f} steps/s", flush=True)
    here, there = found.values()
    print(f"{kind}, median of four ratios: {np.median([a / b for a, b in zip(here, there)]):.3f}")


def milliseconds(call, repeats):
    """Of a call: median."""
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
    return 1000 * float(np.median(times))


def bare_update(agent, env, size):
    """Milliseconds of the update on a batch of size that is there already."""
    rng, frames, actions = np.random.default_rng(0), env.single_observation_space, env.single_action_space
    states = (rng.random((2, size, *frames.shape)) * (255 if frames.dtype == np.uint8 else 1)).astype(frames.dtype)
    column = np.ones(size, np.float32)
    batch = (states[0], np.zeros((size, *actions.shape), actions.dtype), column, column, states[1], column)
    batch = [torch.from_numpy(array) for array in batch]
    return milliseconds(lambda: agent.update(batch, 1), 1000 if size > 32 else 100)


def one_step(module, env, network):
    """Milliseconds of an actor's forward pass, and of a step of its environment."""
    states, _ = env.reset(seed=1)

    def forward():
        with torch.inference_mode():
            network(torch.from_numpy(states))

    env.action_space.seed(1)
    return milliseconds(forward, 1000), milliseconds(lambda: env.step(env.action_space.sample()), 1000)


def filled(module, args, env):
    """A replay in a manager's process, and a store, both full; (manager, replay, store, a call that adds a block)."""
    store = np.zeros(args.capacity, np.dtype(module.store_fields(env), align=True))
    store["count"], store["k"], store["episode_step"] = np.arange(args.capacity), 3, 4
    context = module.mp.get_context("forkserver")
    module.managers.BaseManager.register("PrioritizedReplay", module.PrioritizedReplay)
    manager = module.managers.BaseManager(ctx=context)
    manager.start()
    replay = manager.PrioritizedReplay(args, {"global_step": 0, "prior_steps": 0, "evaluations": []})
    head, rng = 0, np.random.default_rng(0)

    def add():
        nonlocal head
        counts = np.arange(head, head + args.local_buffer_size)
        head += args.local_buffer_size
        replay.add(0, head, counts, rng.random(len(counts)), False, [])

    for _ in range(args.capacity // args.local_buffer_size - 2):
        add()
    return manager, replay, store, add


def calls(module, args, env, size):
    """Milliseconds a batch: the manager's sample, gather, copy; a call: add."""
    manager, replay, store, add = filled(module, args, env)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    slots = counts = weights = batches = None

    def sample():
        nonlocal slots, counts, weights
        known = (np.zeros(0, np.int64), np.zeros(0, np.int64)) if slots is None else (slots.ravel(), counts.ravel())
        slots, counts, weights, _, _ = replay.sample(*known, np.full(len(known[0]), 0.5))

    def gather():
        nonlocal batches
        batches = [module.gather(store, *batch, args) for batch in zip(slots, counts, weights)]

    def copy():
        for column in (column for columns in batches for column in columns):
            torch.from_numpy(column).to(device, non_blocking=True)
        if device.type == "cuda":
            torch.cuda.synchronize()

    sample()
    n = slots.size // size  # batches in a call: fewer while the replay is small
    found = {"manager: sample": milliseconds(sample, 100) / n, "gather": milliseconds(gather, 30) / n,
             "copy to the device": milliseconds(copy, 30) / n, "manager: add, a block of 50": milliseconds(add, 20)}
    manager.shutdown()
    return found


def memory(slots):
    """GB that slots of the Atari replay take in memory: when created, half full, full."""
    def resident():
        lines = Path("/proc/self/smaps").read_text().split("memfd:ca2e")[1].splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith("Rss:")) * 1024 / 1e9

    memory, found = dqn.shared_memory(dqn.store_fields(dqn.make_atari("PongNoFrameskip-v4")), slots), []
    store = np.frombuffer(memory[0].buffer, memory[1])
    for first, last in ((0, 0), (0, slots // 2), (slots // 2, slots)):
        for slot in range(first, last, 1000):
            store[slot : slot + 1000] = np.ones(1, store.dtype)
        found.append(resident())
    return found


class Table:
    """Rows (what, value, unit), printed as they come."""

    def __init__(self):
        vector = torch.backends.cpu.get_cpu_capability()
        self.rows = [["machine", f"{CORES} cores, {platform.machine()}, {vector}, torch {torch.__version__}", ""]]

    def __call__(self, what, value, unit):
        self.rows.append([what, f"{value:.4g}", unit])
        print(f"{what}: {value:.4g} {unit}", flush=True)

    def write(self, name):
        """benchmark/results/<name>.csv"""
        with open(RESULTS / f"{name}.csv", "w", newline="") as file:
            csv.writer(file).writerows([["what", "value", "unit"], *self.rows])


def pipelines(kind):
    """Limits, the pipeline's share of them, and the others, for one script."""
    torch.set_num_threads(1)
    table = Table()
    common = dict(num_nature_actors=1, num_prior_actors=0, buffer_size=20_000, total_timesteps=10**9,
                  learning_starts=0, samples_per_insert=0)
    if kind == "dqn":
        env, module, size = dqn.make_atari("PongNoFrameskip-v4"), dqn, 32
        variants, agents = {"float32": []}, {"float32": dqn.DQN(dqn.Args(), env, CPU)}
        network = agents["float32"].online
        agent = dqn.DQN(dqn.Args(), env, CPU, CORES)
        table(f"bare update, float32, shared by {CORES} cores", bare_update(agent, env, size), "ms")
        others = {"stable-baselines3 DQN": "sb3_dqn", "CleanRL's dqn_atari loop": "cleanrl_dqn"}
        for name, value in zip(("created", "half full", "full"), memory(1_000_000)):
            table(f"replay of 1,000,000, {name}", value, "GB")
    else:
        env, module, size = ddpg.make_control("Hopper-v5"), ddpg, 128
        variants, agents = {"float32": []}, {"float32": ddpg.DDPG(ddpg.Args(), env, CPU)}
        network, others = agents["float32"].online.actor, {"stable-baselines3 DDPG": "sb3_ddpg"}

    forward, step = one_step(module, env, network)
    table("an actor's forward pass", forward, "ms")
    table("a step of the environment", step, "ms")
    for what, value in calls(module, module.Args(**common), env, size).items():
        table(f"{what}{'' if what.startswith('manager: a') else ', a batch'}", value, "ms")
    for name, flags in variants.items():
        for turn in range(ROUNDS):  # the learner has a core of its own: one actor, and the rate limit is off
            limit = bare_update(agents[name], env, size)
            table(f"bare update, {name}, one core, round {turn + 1}", limit, "ms")
            free = pipeline(kind, *"--samples-per-insert 0 --num-nature-actors 1 --num-prior-actors 0".split(), *flags,
                            own_core=True)
            table(f"one actor, rate limit off, {name}: updates/s / the limit", free["updates/s"] * limit / 1000, "")
            table("  waiting for the replay (manager call, gather)", free["manager call"] + free["gather"], "of the time")
            table("  steps/s of the one actor / its limit", free["steps/s"] * (forward + step) / 1000, "")
    speeds = {f"CA2E, {name}": [] for name in variants}
    speeds |= {f"{name}, {threads} threads": [] for name in others for threads in sorted({1, CORES})}
    for turn in range(ROUNDS):
        for name, found in speeds.items():
            if name.startswith("CA2E"):
                run = pipeline(kind, *variants[name.split(", ")[1]])
                found.append(run["steps/s"])
                table(f"{name}: command to 8 actors that have delivered", run["start-up"], "s")
                for part in ("update", "manager call", "gather", "publish", "held"):
                    table(f"{name}: learner's time in {part}", run[part], "of the time")
            else:
                label, threads = name.removesuffix(" threads").rsplit(", ", 1)
                found.append(theirs(others[label], threads, SECONDS))
            table(f"{name}, round {turn + 1}", found[-1], "steps/s")
    for label in others:
        best = [max(pair) for pair in zip(*(found for name, found in speeds.items() if name.startswith(label)))]
        for name in variants:
            ratios = [a / b for a, b in zip(speeds[f"CA2E, {name}"], best)]
            table(f"CA2E, {name} / {label}, the better of its two, median of rounds", float(np.median(ratios)), "times")
    table.write(f"speed_{SCRIPTS[kind].removeprefix('ca2e_')}")


def scaling():
    """Steps/s, and the learner's waiting, with 1 to 16 actors; the manager's calls with 10k to 1M slots; a plot."""
    table = Table()
    for kind, module, size in (("dqn", dqn, 32), ("ddpg", ddpg, 128)):
        for n in (1, 2, 4, 8, 16):
            run = pipeline(kind, "--num-prior-actors", "0", "--num-nature-actors", str(n))
            table(f"{kind}, {n} actors", run["steps/s"], "steps/s")
            table(f"{kind}, {n} actors: learner waits for the replay", run["manager call"] + run["gather"], "of the time")
            table(f"{kind}, {n} actors: learner held by the rate limit", run["held"], "of the time")
        env = dqn.make_atari("PongNoFrameskip-v4") if kind == "dqn" else ddpg.make_control("Hopper-v5")
        for slots in (10_000, 100_000, 1_000_000):
            found = calls(module, module.Args(
                num_nature_actors=1, num_prior_actors=0, buffer_size=slots, total_timesteps=10**9, learning_starts=0,
                samples_per_insert=0), env, size)
            for what in ("manager: sample", "gather"):
                table(f"{kind}, {slots:,} slots: {what}, a batch", found[what], "ms")
    table.write("scaling")
    plot_scaling()


def plot_scaling():
    """benchmark/results/scaling.png, from scaling.csv"""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    with open(RESULTS / "scaling.csv", newline="") as file:
        values = {row["what"]: row["value"] for row in csv.DictReader(file)}
    figure, axes = plt.subplots(1, 3, figsize=(15, 4))

    def curve(axis, xs, pattern, style, label):
        axis.plot(xs, [float(values[pattern.format(x)]) for x in xs], style, color=colour, label=label)

    numbers, sizes = (1, 2, 4, 8, 16), (10_000, 100_000, 1_000_000)
    for kind, colour in (("dqn", "#D55E00"), ("ddpg", "#0072B2")):  # told apart by colour-blind readers, too
        curve(axes[0], numbers, kind + ", {} actors", "o-", kind)
        curve(axes[1], numbers, kind + ", {} actors: learner waits for the replay", "o-",
              f"{kind}: manager call and gather")
        curve(axes[1], numbers, kind + ", {} actors: learner held by the rate limit", "s--",
              f"{kind}: no data yet")
        curve(axes[2], sizes, kind + ", {:,} slots: manager: sample, a batch", "o-", f"{kind}: manager call")
        curve(axes[2], sizes, kind + ", {:,} slots: gather, a batch", "s--", f"{kind}: gather")
    axes[0].set(xlabel="actors", ylabel="steps/s", xscale="log", ylim=(0, None))
    axes[1].set(xlabel="actors", ylabel="share of the learner's time", xscale="log", ylim=(0, 0.1))
    axes[2].set(xlabel="slots", ylabel="ms a batch", xscale="log", ylim=(0, None))
    for axis in axes:
        axis.legend(fontsize=8)
        axis.grid(alpha=0.3)
    for axis in axes[:2]:
        axis.set_xticks(numbers, numbers)
    figure.tight_layout()
    figure.savefig(RESULTS / "scaling.png", dpi=90)


def replay():
    """Priorities handed in, and a batch sampled and gathered, Hopper's transitions: through the manager; torchrl's."""
    table, env = Table(), ddpg.make_control("Hopper-v5")
    for slots in (10_000, 1_000_000):
        other = theirs("torchrl", slots, python=os.environ.get("TORCHRL_PYTHON", sys.executable))
        for size in (32, 128, 512):
            args = ddpg.Args(num_nature_actors=1, num_prior_actors=0, buffer_size=slots, total_timesteps=10**9,
                             learning_starts=0, samples_per_insert=0, batch_size=size)
            found = calls(ddpg, args, env, size)
            mine = found["manager: sample"] + found["gather"]
            table(f"{slots:,} slots, batch {size}: CA2E, through the manager, {ddpg.BATCHES_PER_CALL} a call", mine, "ms")
            table(f"{slots:,} slots, batch {size}: torchrl, in the process", other[str(size)], "ms")
            table(f"{slots:,} slots, batch {size}: torchrl / CA2E", other[str(size)] / mine, "times")
        table(f"{slots:,} slots: CA2E, adds/s, blocks of 50", 50_000 / found["manager: add, a block of 50"], "1/s")
        table(f"{slots:,} slots: torchrl, adds/s, blocks of 50", other["adds"], "1/s")
        table(f"{slots:,} slots: CA2E, bytes a transition",
              np.dtype(ddpg.store_fields(env), align=True).itemsize + 8 + 16 * (1 << (slots - 1).bit_length()) / slots, "B")
        table(f"{slots:,} slots: torchrl, bytes a transition", other["bytes"], "B")
    table.write("speed_replay")


if __name__ == "__main__":
    what = sys.argv[1] if len(sys.argv) > 1 else ""
    if what == "editions":
        sys.exit(editions(*sys.argv[2:]))
    if what not in (known := {"dqn": pipelines, "ddpg": pipelines, "scaling": scaling, "replay": replay}):
        sys.exit(f"error: which of {', '.join(known)}, editions? (its first lines say what each does)")
    known[what](*([what] if what in SCRIPTS else []))
