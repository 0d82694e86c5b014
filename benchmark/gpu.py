"""The learner on a GPU: what an update costs, what feeds it, and what of that the running pipeline reaches.

    python benchmark/gpu.py     # some 5 minutes; benchmark/results/gpu_update.csv

An update is timed in a row of 200, waiting for the GPU only at the end. "launched" is the time until the last one is
queued: the GPU works meanwhile.
"""

import sys
import time
from pathlib import Path

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).parent))
import speed  # noqa: E402

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
ROW, ROUNDS = (200, 5) if DEVICE.type == "cuda" else (3, 2)


def wait():
    if DEVICE.type == "cuda":
        torch.cuda.synchronize()


def row(call):
    """Milliseconds a call: until the last of a row is launched, until the GPU is done; medians of the rounds."""
    found = []
    for _ in range(ROUNDS + 1):  # the first warms up
        wait()
        start = time.perf_counter()
        for _ in range(ROW):
            call()
        launched = time.perf_counter()
        wait()
        found.append((1000 * (launched - start) / ROW, 1000 * (time.perf_counter() - start) / ROW))
    return np.median(found[1:], axis=0)


def example(env, size):
    """A batch of noise, on the device."""
    rng, frames, actions = np.random.default_rng(0), env.single_observation_space, env.single_action_space
    states = (rng.random((2, size, *frames.shape)) * (255 if frames.dtype == np.uint8 else 1)).astype(frames.dtype)
    column = np.ones(size, np.float32)
    batch = states[0], np.zeros((size, *actions.shape), actions.dtype), column, column, states[1], column
    return [torch.from_numpy(array).to(DEVICE) for array in batch]


def updates(table, kind, make, size):
    """The bare update, as it is and in ways that the script leaves alone; returns the milliseconds as it is."""
    def timed(change=lambda agent: None, device=DEVICE, **autocast):
        agent, batch = make(device), [column.to(device) for column in example(make.env, size)]
        change(agent)

        def call():
            with torch.autocast(DEVICE.type, torch.bfloat16, enabled=bool(autocast), cache_enabled=False):
                agent.update(batch, 1)
        return row(call)

    def one_by_one(agent):
        agent.learn = getattr(agent.learn, "function", agent.learn)

    torch.backends.cudnn.deterministic = True  # as --torch-deterministic has it
    launch, plain = timed()
    table(f"{kind}: bare update", plain, "ms")
    table(f"{kind}: of this, until it is launched", launch, "ms")
    table(f"{kind}: bare update, each kernel launched by itself", timed(one_by_one)[1], "ms")
    torch.backends.cudnn.deterministic = False
    table(f"{kind}: bare update, kernels that need not be deterministic", timed()[1], "ms")
    torch.set_float32_matmul_precision("high")
    torch.backends.cudnn.allow_tf32 = True
    table(f"{kind}: bare update, TF32", timed()[1], "ms")
    torch.set_float32_matmul_precision("highest")
    torch.backends.cudnn.deterministic = True
    table(f"{kind}: bare update, bfloat16", timed(bfloat16=True)[1], "ms")
    table(f"{kind}: bare update, one core of this machine's CPU", timed(device=speed.CPU)[1], "ms")
    return plain


def transfers(table, kind, module, env, agent, size):
    """The manager's calls, gather and copy, a batch; copy and update together; a publication."""
    args = module.Args(num_nature_actors=1, num_prior_actors=0, buffer_size=100_000, total_timesteps=10**9,
                       learning_starts=0, samples_per_insert=0)
    for what, value in speed.calls(module, args, env, size).items():
        table(f"{kind}: {what}{'' if what.startswith('manager: a') else ', a batch'}", value, "ms")
    batch = [column.cpu() for column in example(env, size)]
    for how, pin, quick in (("waited for", False, False), ("not waited for", False, True), ("pinned first", True, True)):
        def copy_and_update():
            agent.update([(column.pin_memory() if pin and DEVICE.type == "cuda" else column).to(
                DEVICE, non_blocking=quick) for column in batch], 1)
        table(f"{kind}: a batch's copy to the device, {how}, and an update", row(copy_and_update)[1], "ms")
    sizes = [sum(tensor.numel() for tensor in net.parameters()) for net in (agent.online, agent.average)]
    board = np.zeros(1, [("version", int), ("newest", np.float32, sizes[:1]), ("average", np.float32, sizes[1:])])[0]
    table(f"{kind}: publication", row(lambda: module.publish(board, agent.online, agent.average))[1], "ms")


def main():
    table, known = speed.Table(), []
    table.rows[0][1] += f", {torch.cuda.get_device_name() if DEVICE.type == 'cuda' else 'no GPU'}"
    torch.set_num_threads(1)
    for kind, module, size in (("dqn", speed.dqn, 32), ("ddpg", speed.ddpg, 128)):
        env = module.make_atari("PongNoFrameskip-v4") if kind == "dqn" else module.make_control("Hopper-v5")

        def make(device=DEVICE):
            return (module.DQN if kind == "dqn" else module.DDPG)(module.Args(), env, device)

        make.env = env
        known.append(updates(table, kind, make, size))
        transfers(table, kind, module, env, make(), size)
        forward, step = speed.one_step(module, env, (module.QNetwork if kind == "dqn" else module.Actor)(env))
        table(f"{kind}: an actor's forward pass", forward, "ms")
        table(f"{kind}: a step of the environment", step, "ms")
    for kind, limit, ways in (("dqn", known[0], ((5, 3, 0), (5, 3, 8), (5, 3, 32), (10, 6, 8))),
                              ("ddpg", known[1], ((5, 3, 128),))):
        for nature, priors, samples in ways:
            run = speed.pipeline(kind, "--num-nature-actors", str(nature), "--num-prior-actors", str(priors),
                                 "--samples-per-insert", str(samples))
            table.write("gpu_update")
            what = f"{kind}, {nature} + {priors} actors, {samples or 'no limit of'} samples an insert"
            table(f"{what}: updates/s", run["updates/s"], "1/s")
            table(f"{what}: updates/s / the bare update's", run["updates/s"] * limit / 1000, "")
            table(f"{what}: steps/s", run["steps/s"], "1/s")
            for part in ("update", "manager call", "gather", "publish", "held"):
                table(f"{what}: learner's time in {part}", run[part], "of the time")
    table.write("gpu_update")


if __name__ == "__main__":
    if {"-h", "--help"} & {*sys.argv}:
        sys.exit(__doc__)
    main()
