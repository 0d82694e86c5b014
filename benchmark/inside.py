"""What happens inside the runs of figure3.py: who made the data, who retired, and whether the critic is honest.

    python benchmark/inside.py measure hopper_ca2e_s1_1m   # q against realised returns: results/NAME_q.csv
    python benchmark/inside.py plot hopper_ca2e_s1_1m ...   # benchmark/results/inside.png, a column a run

The shares of the prior actors were logged by the first edition alone; `plot` needs curves of its runs.
`measure` reads the snapshots that figure3.py kept in benchmark/work. For each it plays five greedy episodes and compares
the critic's q(s_t, pi(s_t)), averaged over all states visited, with the discounted return that followed them. The
episodes are played 400 steps longer than they count, since the critic looks beyond a task's time limit.
"""

import csv
import sys

import gymnasium as gym
import numpy as np
import torch
from curves import COLOURS
from figure3 import RESULTS, WORK, ddpg

BEYOND, EPISODES, SNAPSHOTS = 400, 5, 20


def q_and_return(env_id, agent, gamma):
    """(mean q, mean realised discounted return) over the states of greedy episodes."""
    limit = gym.spec(env_id).max_episode_steps
    env = gym.make(env_id, max_episode_steps=limit + BEYOND)
    q_values, realised = [], []
    for episode in range(EPISODES):
        observation, _ = env.reset(seed=episode)
        rewards, done = [], False
        while not done:
            with torch.inference_mode():
                state = torch.from_numpy(observation).float()[None, None]
                action = agent.actor(state)
                q_values.append(float(agent.critic(state, action)))
            observation, reward, termination, truncation, _ = env.step(action[0].numpy())
            rewards.append(float(reward))
            done = termination or truncation
        after, total = np.zeros(len(rewards)), 0.0
        for t in reversed(range(len(rewards))):
            after[t] = total = rewards[t] + gamma * total
        del q_values[len(q_values) - len(rewards) + min(limit, len(rewards)):]
        realised.extend(after[:limit])
    return np.mean(q_values), np.mean(realised)


def measure(*names):
    """One row a snapshot, some twenty a run: step, mean q, mean realised return."""
    for name in names:
        rows = []
        paths = sorted((WORK / name / "snapshots").glob("*.pt"))
        for path in paths[:: max(1, len(paths) // SNAPSHOTS)]:
            saved = torch.load(path, weights_only=True)
            agent = ddpg.ActorCritic(ddpg.make_control(saved["env_id"]))
            agent.load_state_dict(saved["online"])
            agent.actor.load_state_dict(saved["network"])  # the averaged one, which is evaluated
            q, realised = q_and_return(saved["env_id"], agent, saved["args"]["gamma"])
            rows.append([saved["global_step"], round(q, 3), round(realised, 3)])
        with open(RESULTS / f"{name}_q.csv", "w", newline="") as file:
            csv.writer(file).writerows([["step", "mean_q", "realised_return"], *rows])


def plot(*names):
    """Greedy return; shares of the prior actors and how many act; q against what was realised."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(3, len(names), figsize=(5 * len(names), 9.4), squeeze=False, sharex="col",
                                layout="constrained")
    for column, name in zip(axes.T, names):
        curve, honest = ({key: np.array([float(row[key]) for row in rows]) for key in keys} for rows, keys in (
            (list(csv.DictReader(open(RESULTS / f"{name}.csv")))[:-1],
             ("step", "greedy_mean", "acting_priors", "prior_replay_share", "prior_batch_share")),
            (list(csv.DictReader(open(RESULTS / f"{name}_q.csv"))), ("step", "mean_q", "realised_return"))))
        for steps in (curve, honest):
            steps["step"] /= 1000
        column[0].plot(curve["step"], curve["greedy_mean"], color=COLOURS[0])
        column[0].set(title=name, ylabel="greedy return")
        column[1].plot(curve["step"], curve["prior_replay_share"], color=COLOURS[0], label="of the replay, made by prior actors")
        column[1].plot(curve["step"], curve["prior_batch_share"], "--", color=COLOURS[1], label="of the batches")
        column[1].step(curve["step"], curve["acting_priors"] / 8, color="0.6", label="of the actors, acting as priors")
        column[1].set(ylabel="share", ylim=(0, 0.6))
        column[2].plot(honest["step"], honest["mean_q"], color=COLOURS[0], label="mean q(s, pi(s)) of the greedy agent's states")
        column[2].plot(honest["step"], honest["realised_return"], "--", color=COLOURS[1], label="discounted return that followed")
        column[2].set(xlabel="thousand steps of all actors", ylabel="value")
        for axis in column[1:]:
            axis.legend(fontsize=8, loc="lower center", bbox_to_anchor=(0.5, 1.0))
        for axis in column:
            axis.grid(alpha=0.3)
    figure.savefig(RESULTS / "inside.png", dpi=90)


if __name__ == "__main__":
    if {"-h", "--help"} & {*sys.argv} or len(sys.argv) == 1:
        sys.exit(__doc__)
    {"measure": measure, "plot": plot}[sys.argv[1]](*sys.argv[2:])
