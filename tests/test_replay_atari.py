"""What the learner gathers from shared memory is what the actors saw, byte for byte, on the real games."""

import numpy as np
import pytest

import ca2e_dqn_atari as ca2e
from test_parts import NOTHING


def slow_return(steps, t, n, gamma):
    """G_t, discount and k by the definition, one step at a time; steps are (state, action, reward, terminated, ...)."""
    total = 0.0
    for i in range(n):
        total += gamma**i * steps[t + i][2]
        if steps[t + i][3]:
            return total, 0.0, i + 1
        if steps[t + i + 1][5]:
            return total, gamma ** (i + 1), i + 1
    return total, gamma**n, n


def two_actors(script, args, network, monkeypatch):
    """Two actors in this process: (a call that lets each deliver a block, replay, store, what each saw, by count)."""
    env = (script.make_atari if hasattr(script, "make_atari") else script.make_control)(args.env_id)
    store = np.zeros(args.capacity, np.dtype(script.store_fields(env), align=True))
    replay = script.PrioritizedReplay(args, {"global_step": 0, "prior_steps": 0, "evaluations": []})
    whole = network(env)
    size = sum(parameter.numel() for parameter in whole.parameters())
    board = np.zeros(1, [("version", int), ("newest", np.float32, (size,)), ("average", np.float32, (size,))])[0]
    script.publish(board, whole, whole)
    seen, append = {0: {}, 1: {}}, script.LocalBuffer.append

    def record(buffer, state, action, reward, terminated, episode_step, final=False):
        seen[buffer.index][buffer.count] = (state.copy(), action, reward, terminated, episode_step, final)
        append(buffer, state, action, reward, terminated, episode_step, final)

    monkeypatch.setattr(script.LocalBuffer, "append", record)
    actors = [script.actor(args, i, None, replay, store, board) for i in range(2)]
    return lambda: [next(acting) for acting in actors], replay, store, seen


def check_samples(script, args, replay, store, seen, rows):
    """Compares sampled transitions with what the actors saw; yields (count, discount, k) of each."""
    slots, counts, weights, _, _ = replay.sample(*NOTHING)
    for row in zip(slots[:rows], counts, weights):
        states, actions, returns, discounts, next_states, got_weights = script.gather(store, *row, args)
        assert (got_weights == row[2]).all()
        for j, (slot, count) in enumerate(zip(*row[:2])):
            steps = seen[slot // args.ring_size]
            want_return, want_discount, k = slow_return(steps, count, 3, args.gamma)
            assert slot % args.ring_size == count % args.ring_size
            assert not steps[count][5], "a game's final state was sampled"
            assert (states[j] == steps[count][0]).all() and (next_states[j] == steps[count + k][0]).all()
            assert (actions[j] == steps[count][1]).all()
            assert returns[j] == pytest.approx(want_return, rel=1e-4) and discounts[j] == pytest.approx(want_discount)
            yield count, want_discount, k


@pytest.mark.parametrize("env_id", ["PongNoFrameskip-v4", "BreakoutNoFrameskip-v4"])
def test_sampled_states_equal_the_environments_own_stacks(env_id, monkeypatch):
    args = ca2e.Args(env_id=env_id, num_nature_actors=2, num_prior_actors=0, buffer_size=900, total_timesteps=10**9,
                     start_e=1.0, min_start_e=1.0, end_e=1.0, learning_starts=0, samples_per_insert=0)
    play, replay, store, seen = two_actors(ca2e, args, ca2e.QNetwork, monkeypatch)
    checked = []
    play()  # their environments
    for block in range(36):  # 1,800 steps each, through four laps of 450 slots
        play()
        if block % 3 == 0:
            checked += check_samples(ca2e, args, replay, store, seen, 4)
    assert len(checked) > 1000 and sum(count >= args.ring_size for count, _, _ in checked) > 200
    everything = [step for steps in seen.values() for step in steps.values()]
    games = sum(step[5] for step in everything)
    assert games > 0 and sum(step[4] == 0 for step in everything) == games + 2
    assert replay.progress["global_step"] == len(everything) - games - 2 * 3  # but the newest three of each
    if "Breakout" in env_id:
        for steps in seen.values():  # the game waits for FIRE after a lost life: the actor presses it
            pressed = [steps[count + 1][1] for count in steps if steps[count][3] and count + 1 in steps
                       and not steps[count + 1][5]]
            assert len(pressed) > 20 and set(pressed) == {1}
        assert any(k < 3 for _, _, k in checked) and sum(step[3] for step in everything) > games  # lives were lost


def test_a_game_that_goes_on_with_0_lives_is_not_over(monkeypatch):
    """Frogger's counter reaches 0 one life before the end. Where the frame number falls, the next game has begun."""
    watched, make = [], ca2e.make_atari

    def make_watched(*arguments):
        env, infos = make(*arguments), []
        step = env.step
        env.step = lambda actions: (answer := step(actions), infos.append(answer[4]))[0]
        watched.append(infos)
        return env

    monkeypatch.setattr(ca2e, "make_atari", make_watched)
    args = ca2e.Args(env_id="ALE/Frogger-v5", num_nature_actors=2, num_prior_actors=0, buffer_size=900, total_timesteps=10**9,
                     start_e=1.0, min_start_e=1.0, end_e=1.0, learning_starts=0, samples_per_insert=0)
    play, _, _, seen = two_actors(ca2e, args, ca2e.QNetwork, monkeypatch)
    for _ in range(21):
        play()
    frames = [[int(info["episode_frame_number"][0]) for info in infos] for infos in watched]
    ends = sum(later < now for mine in frames for now, later in zip(mine, mine[1:]))
    assert ends >= 4 and sum(step[5] for steps in seen.values() for step in steps.values()) == ends
    assert sum(info["lives"][0] == 0 for infos in watched for info in infos) > 10 * ends
