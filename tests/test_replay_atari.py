"""What the learner gathers from shared memory is what the actors saw, byte for byte, on the real games."""

import numpy as np
import pytest

import ca2e_dqn_atari as ca2e


def slow_return(rewards, terminations, last, t, n, gamma):
    """G_t, discount and k by the definition, one step at a time."""
    total = 0.0
    for i in range(n):
        total += gamma**i * rewards[t + i]
        if terminations[t + i]:
            return total, 0.0, i + 1
        if last[t + i + 1]:
            return total, gamma ** (i + 1), i + 1
    return total, gamma**n, n


@pytest.mark.parametrize("env_id", ["PongNoFrameskip-v4", "BreakoutNoFrameskip-v4"])
def test_sampled_states_equal_the_environments_own_stacks(env_id, monkeypatch):
    args = ca2e.Args(env_id=env_id, num_nature_actors=2, num_prior_actors=0, buffer_size=900, total_timesteps=10**9,
                     start_e=1.0, min_start_e=1.0, end_e=1.0, learning_starts=0, samples_per_insert=0)
    env = ca2e.make_atari(env_id)
    store = ca2e.SharedArray(args.num_actors * args.part, ca2e.slot(env))
    state = {"global_step": 0, "prior_steps": 0, "updates": 0, "roles": [0, 1], "evaluations": []}
    replay = ca2e.PrioritizedReplay(args, [], state)
    network = ca2e.QNetwork(env)
    size = sum(parameter.numel() for parameter in network.parameters())
    weights = ca2e.SharedArray(1, [("version", np.int64), ("vector", np.float32, (size,))])
    ca2e.publish(weights, network)

    seen = {0: [], 1: []}  # everything that every actor saw and did, in order
    append = ca2e.LocalBuffer.append

    def record(buffer, *step):
        seen[buffer.actor].append(step)
        append(buffer, *step)

    monkeypatch.setattr(ca2e.LocalBuffer, "append", record)
    actors = [ca2e.actor(args, i, None, replay, store, weights) for i in range(2)]
    part, capacity, checked, cuts, wrapped = args.part, args.part * 2, 0, 0, 0
    for block in range(36):  # 1,800 steps each, through four laps of 450 slots
        for a in actors:
            next(a)
        if block % 3:
            continue
        ids, batch_weights, _, _ = replay.sample(np.zeros(0, np.int64), np.zeros(0))
        columns = {a: [np.array(column) for column in list(zip(*steps))[2:5]] for a, steps in seen.items()}
        for row, row_weights in zip(ids[:4], batch_weights):
            states, actions, returns, discounts, next_states, got_weights = ca2e.gather(store.array, row, row_weights, args)
            assert (got_weights == row_weights).all()
            for j, identity in enumerate(row):
                slot = identity % capacity
                a, count = slot // part, identity // capacity * part + slot % part
                want_return, want_discount, k = slow_return(*columns[a], count, 3, args.gamma)
                assert not seen[a][count][4], "a game's last observation was sampled"
                assert (states[j] == seen[a][count][0]).all()
                assert (next_states[j] == seen[a][count + k][0]).all()
                assert actions[j] == seen[a][count][1]
                assert returns[j] == pytest.approx(want_return) and discounts[j] == pytest.approx(want_discount)
                checked, cuts, wrapped = checked + 1, cuts + (k < 3), wrapped + (count >= part)
    games = sum(step[4] for steps in seen.values() for step in steps)
    assert checked > 1000 and wrapped > 200 and games > 0
    if "Breakout" in env_id:
        for steps in seen.values():  # the game waits for FIRE after a lost life: the actor presses it
            pressed = [after[1] for step, after in zip(steps, steps[1:]) if step[3] and not after[4]]
            assert len(pressed) > 20 and set(pressed) == {1}
        assert cuts > 0 and sum(step[3] for steps in seen.values() for step in steps) > games  # lives were lost
