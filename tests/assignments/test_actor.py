"""actor: Alg. 1.1 and 1.2 as one generator, played here in an environment that follows a script, without any network.

Every state is a number: 100 * game + step. The learner's policy plays the action 1, the prior's the action 2, and a
random action, or noise, is switched off but where a test asks for it.
"""

from types import SimpleNamespace

import gymnasium as gym
import numpy as np
import torch
from common import DDPG, numbers, real, reference_of

B, N, LENGTH = 4, 2, 5  # steps in a delivery, n, steps of a game


def is_dqn(student):
    return hasattr(student, "QNetwork")


class Game:
    """Games of LENGTH steps, the odd ones terminated, the others truncated; in Atari a life is lost in step 2, if there are lives."""

    def __init__(self, atari: bool, lives: bool = True):
        self.has_lives = lives
        self.atari, self.game, self.t, self.over, self.actions, self.played, self.seeds = atari, 0, 0, False, [], [], []
        shape = (4, 1, 1) if atari else (1, 1)
        self.shape, self.fire = shape, 3
        self.single_observation_space = gym.spaces.Box(0, 9999, shape)
        # in DDPG: two joints; half of their ranges are 3 and 5
        self.single_action_space = gym.spaces.Discrete(4) if atari else gym.spaces.Box(np.float32([-1, -3]), np.float32([5, 7]))
        self.num_envs = 1
        self.action_space = gym.vector.utils.batch_space(self.single_action_space, 1)

    def state(self):
        return np.full((1, *self.shape), 100 * self.game + self.t, np.float32)

    def reset(self, *, seed=None, **_):
        assert seed is None or type(seed) is int, f"env.reset got a seed of the type {type(seed).__name__}: int(...) is meant."
        self.seeds.append(seed)
        assert len(self.seeds) == 1, (
            "env.reset was called again: reset once, before the loop. A game goes on across blocks, and after its end one more "
            "env.step starts the next.")
        return self.state(), {"lives": np.array([2 * self.has_lives])}

    def step(self, actions):
        assert np.ndim(actions) and len(actions) == 1 and (self.over or np.shape(actions) == self.action_space.shape), (
            f"env.step got actions of the shape {np.shape(actions)}; {self.action_space.shape} is meant: a vector of "
            "environments, here of one.")
        if self.over:  # as gymnasium's next-step autoreset: the action is ignored
            self.game, self.t, self.over = self.game + 1, 0, False
            return self.state(), np.zeros(1), np.zeros(1, bool), np.zeros(1, bool), {"lives": np.array([2 * self.has_lives])}
        self.actions.append((self.game, self.t, float(np.asarray(actions).ravel()[0])))
        self.played.append(np.array(actions, np.float64).ravel())
        self.t += 1
        self.over = self.t == LENGTH
        died = self.over and self.game % 2 == 0
        life = self.atari and self.t == 2 and self.has_lives
        lives = 0 if died or not self.has_lives else 1 if self.atari and self.t >= 2 else 2
        return (self.state(), np.array([-3.0 if self.t == 3 else float(self.t)]), np.array([died or life]), np.array([self.over and not died]),
                {"lives": np.array([lives])})


class Policy(torch.nn.Module):
    """QNetwork, which always chooses `action`: 1 for the learner's, 2 for the prior's, once it was filled; 0 before."""

    def __init__(self, env=None):
        super().__init__()
        self.action, self.env, self.scale = 0, env, torch.tensor([3.0, 5.0])
        self.weight = torch.nn.Parameter(torch.ones(()))  # so that the actions need a gradient, as a network's do

    def forward(self, states):
        if self.env.atari:
            return torch.nn.functional.one_hot(torch.full((len(states),), self.action), 4) * self.weight
        return torch.full((len(states), 2), float(self.action)) * self.weight


class Actor(Policy):
    """In CA2E-DDPG, as a prior's file has it."""


class ActorCritic(Policy):
    """In CA2E-DDPG, the learner's."""

    def __init__(self, env=None):
        super().__init__(env)
        self.actor, self.critic = Actor(env), None


class Board:
    """What only `receive` reads."""

    def __getitem__(self, name):
        raise AssertionError(f"It read {name!r} on the board: receive reads the network there; join, then deliver, tell the global step.")


class Replay:
    """Answers as the served one does; `evaluations` grows by one a block."""

    def __init__(self, evaluations=(), first_count=7):
        self.evaluations, self.first_count, self.joined = list(evaluations), first_count, []

    def join(self, index):
        self.joined.append(index)
        return self.first_count, 40, list(self.evaluations)  # a copy, as it comes from another process


def play(student, blocks: int, prior=None, evaluations=(), block_evaluations=(), noise=0.0, prior_noise=0.0, index=6,
         lives=True, block_size=B, seed=0):
    """Runs the student's actor for so many blocks, and tells what happened in a record."""
    env, replay, seen = Game(is_dqn(student), lives), Replay(evaluations), SimpleNamespace(received=[], yields=[])
    seen.deliveries, seen.stored, seen.loaded, seen.asked = [], [], [], []
    feed = list(block_evaluations)

    class Buffer:
        """In the place of LocalBuffer: keeps what it is given."""

        def __init__(self, args, store, index, first_count):
            self.steps, self.episodes, self.count, seen.buffer = [], [], first_count, (index, first_count)

        def append(self, state, action, reward, terminated, episode_step, final=False):
            if len(self.steps) >= 40:
                raise AssertionError("It never delivers: deliver once a block of B + n steps is full.")
            self.count += 1
            shapes = np.shape(state), np.shape(action)
            assert shapes == (env.shape, env.single_action_space.shape) or final and shapes[0] == env.shape, (
                f"append got a state of the shape {shapes[0]} and an action of {shapes[1]}; {env.shape} and "
                f"{env.single_action_space.shape} are meant, those of one environment: states[0], and one action.")
            if not final:
                seen.stored.append(np.array(action, np.float64).ravel())
            # as the real one: what is written into a state later shows when the block is delivered
            self.steps.append((state, action, float(reward), bool(terminated), int(episode_step), bool(final)))

        def deliver(self, replay, network, is_prior):
            assert len(seen.deliveries) <= len(seen.yields), "It delivered two blocks without a yield between: yield before each."
            steps = [(float(np.ravel(state)[0]), float(np.ravel(action)[0]), *rest) for state, action, *rest in self.steps]
            seen.deliveries.append(SimpleNamespace(steps=steps, episodes=list(self.episodes),
                                                   is_prior=bool(is_prior), network=network, size=block_size))
            self.steps, self.episodes = self.steps[-N:], []
            replay.evaluations += feed[:1]
            del feed[:1]
            return 40 + 10 * len(seen.deliveries), list(replay.evaluations)

    def load(path, env_id="", **parts):
        seen.loaded.append(str(path))
        kind = Policy if is_dqn(student) else Actor
        assert parts.keys() == {"network"} and type(parts["network"]) is kind, (
            f"load(prior, args.env_id, network=...) is meant, with {'a QNetwork' if is_dqn(student) else 'an Actor'} to be "
            f"filled; it got {', '.join(f'{name}={type(part).__name__}' for name, part in parts.items()) or 'none'}.")
        parts["network"].action = 2
        return {"average_return": 100.0}

    def receive(board, name, network, version):
        block = len(seen.deliveries) if len(seen.yields) > len(seen.deliveries) else None  # None: before its yield
        seen.received.append((name, version, block, network))
        network.action = getattr(network, "actor", network).action = 1
        return (version or 0) + 2

    def explore(*arguments):
        seen.asked.append(arguments[:-1])
        return noise

    fakes = {"make_atari": lambda *_, **__: env, "make_control": lambda *_, **__: env, "QNetwork": Policy,
             "Actor": Actor, "ActorCritic": ActorCritic, "LocalBuffer": Buffer, "load": load, "receive": receive,
             "epsilon_of": lambda index, global_step, args: explore(index, global_step, args),
             "noise_of": lambda index, args: explore(index, args),
             "surpassed": reference_of(DDPG).surpassed}  # the student's may not be written yet
    args = SimpleNamespace(env_id="a game", seed=1 + seed + int(numbers().integers(9)), local_buffer_size=block_size, n_step=N,
                           retire_ratio=1.05, retire_patience=2, prior_epsilon=prior_noise, prior_noise=prior_noise,
                           num_nature_actors=5, num_prior_actors=3, num_actors=8, gamma=0.9)
    before = {name: getattr(student, name) for name in fakes if hasattr(student, name)}
    try:
        for name in before:
            setattr(student, name, fakes[name])
        turns = student.actor(args, index, prior, replay, None, Board())
        assert hasattr(turns, "__next__"), "actor is a generator: it yields the global step before each block."
        for _ in range(blocks + 1):
            seen.yields.append(next(turns))
        turns.close()
    except StopIteration:
        raise AssertionError("It ended; an actor goes on for ever, and is paused where it yields.") from None
    finally:
        for name, value in before.items():
            setattr(student, name, value)
    seen.env, seen.replay = env, replay
    return seen


def steps_of(seen):
    """All steps in their order, each once."""
    return [step for block in seen.deliveries for step in block.steps[(N if block is not seen.deliveries[0] else 0):]]


def test_join_and_yield(student):
    """2 points: it joins the replay once, and yields the global step that it was told last before each block."""
    seen = play(student, 3)
    assert seen.replay.joined == [6], f"replay.join was called with {seen.replay.joined}; once, with its index 6, is meant."
    assert seen.buffer == (6, 7), f"LocalBuffer got (index, first count) {seen.buffer}; (6, 7) is meant."
    assert seen.yields == [40, 50, 60, 70], (
        f"It yielded {seen.yields}, where [40, 50, 60, 70] is right: the global step of join, then of each delivery.")
    assert len(seen.deliveries) == 3, f"Three blocks gave {len(seen.deliveries)} deliveries."


def test_block(student):
    """2 points: a block is delivered as soon as it has B + n steps, Alg. 2's capacity and the window of the last."""
    for size in (B, 3, 5):  # with some a game ends where the block is full
        for block in play(student, 5, block_size=size).deliveries:
            assert size + N <= len(block.steps) <= size + N + 1, (
                f"A delivery of {len(block.steps)} steps; B + n = {size + N} are meant, or one more where a game ends.")


def test_steps(student):
    """4 points: what is stored of a step, in the middle of a game."""
    seen = play(student, 3)
    game = [step for step in steps_of(seen) if step[0] < 100 and not step[5]]
    states = [step[0] for step in game]
    finals = [step[0] for step in steps_of(seen) if step[5]]
    hint = "s_t, before the action."
    if finals[:1] == [2.0]:
        hint = "a lost life is no end of a game."
    if len({step[0] for step in seen.deliveries[0].steps if not step[5]}) == 1:
        hint = "the buffer keeps the arrays that it gets, so write nothing into them later; `states = ...` only gives a new one a name."
    if states == [0.0, 1.0, 2.0, 3.0] and finals[:1] in ([4.0], [5.0]):
        hint = "a game's last step, from 4, is stored like any other; its last state comes as one record more, final=True."
    if states == [0.0, 1.0, 2.0, 3.0, 4.0, 5.0]:
        hint = ("5 is the game's last state, which is final=True." if not finals else
                "after a game's end step once more: what comes is the next game's first state.")
    assert states == [0.0, 1.0, 2.0, 3.0, 4.0], (
        f"The states stored of the first game are {states[:7]}; [0, 1, 2, 3, 4] is right: {hint}")
    assert [step[2] for step in game] == ([1.0, 1.0, -1.0, 1.0, 1.0] if is_dqn(student) else [1.0, 2.0, -3.0, 4.0, 5.0]), (
        f"The rewards stored are {[step[2] for step in game]}; the game gave 1, 2, -3, 4, 5"
        + (", and DQN learns from rewards clipped to [-1, 1]." if is_dqn(student) else "."))
    assert [step[4] for step in game] == [0, 1, 2, 3, 4], (
        f"The episode_step of the first game's steps are {[step[4] for step in game]}; 0 to 4 is right.")
    ended = [False, is_dqn(student), False, False, True]
    assert [step[3] for step in game] == ended, (
        f"The terminations stored of the first game are {[step[3] for step in game]}; {ended} is right"
        + (": a lost life terminates, and so does the end." if is_dqn(student) else "."))


def test_game_over(student):
    """4 points: a game's last state is stored, as final, and the next game begins at its first state."""
    steps = steps_of(play(student, 4))
    final = [step for step in steps if step[5]]
    assert final, "After a game's end its last state, s_t+1, must be appended with final=True: windows need it."
    assert final[0][0] == LENGTH, (
        f"The final state stored is {final[0][0]:.0f}; {LENGTH} is right: the state after the last step.")
    assert final[0][2] == 0, "A final state is no step: it has the reward 0."
    assert final[0][4] == LENGTH, f"A final state's episode_step is {final[0][4]}; {LENGTH} is right."
    following = steps[steps.index(final[0]) + 1]
    assert following[0] != LENGTH - 1, "A game's final state was stored before its last step: the step comes first."
    assert following[0] == 100.0, (
        f"After the final state comes the state {following[0]:.0f}; 100 is right, the next game's first: step once "
        "more, the action is ignored.")
    assert following[4] == 0, f"The next game's first step has episode_step {following[4]}; 0 is right."
    final = [step for step in steps_of(play(student, 2, lives=False)) if step[5]]
    assert final and final[0][0] == LENGTH, (
        "Where a game has no lives, as Pong, info[\"lives\"] is always 0: it is over only if a step terminates and no life is "
        "left, or if it is truncated.")


def test_truncation(student):
    """2 points: the second game is truncated: its last step is no termination."""
    steps = [step for step in steps_of(play(student, 5)) if 100 <= step[0] < 200]
    last = next((step for step in steps if step[0] == 104.0), None)
    assert last, "The step from state 104 on, the last of the second game, was not stored."
    assert not last[3], "A truncated game was stored as terminated: then nothing bootstraps from its last state."
    assert any(step[5] for step in steps), "A truncated game ends, too: its last state must be appended as final."


def test_episodes(student):
    """1 point: each game's return and length are reported, once."""
    seen = play(student, 5)
    episodes = [tuple(map(float, episode)) for block in seen.deliveries for episode in block.episodes]
    assert episodes[:2] == [(9.0, 5.0)] * 2, (
        f"The first two episodes reported are {episodes[:2]}; two times (9, 5), return and length, is right"
        + (": the return is not clipped, and neither a lost life nor a delivery ends a game." if is_dqn(student) else
           ": a delivery ends no game."))
    both = play(student, 1, block_size=12).deliveries[0].episodes
    assert len(both) == 2, f"Two games ended in a block, and it reported {len(both)}: append to buffer.episodes."


def test_nature(student):
    """2 points: a nature actor (no prior) plays the learner's network, which it asks for before each block."""
    seen = play(student, 3)
    actions = {action for game, t, action in seen.env.actions if not (is_dqn(student) and t == 2)}
    blocks = {block for _, _, block, _ in seen.received} - {None}
    assert set(range(3)) <= blocks, (
        f"receive was called before the blocks {sorted(block + 1 for block in blocks)}; before each one is meant, after its "
        "yield: the learner goes on while an actor is paused.")
    assert not (is_dqn(student) and len(actions) > 2), "It played at random, with an epsilon of 0: explore if rng.random() < epsilon."
    assert 0.0 not in actions, (
        "It acted with a network that had not received the learner's weights: after each yield, first receive, then act.")
    assert not is_dqn(student) or seen.env.fire not in actions, "FIRE is pressed only in the step after a lost life."
    assert actions == {1.0}, f"Without noise it played the actions {actions}; {{1}} is right, the learner's."
    assert not any(block.is_prior for block in seen.deliveries), "A nature actor delivered its steps as a prior's."
    assert all(name == "newest" for name, _, _, _ in seen.received), "Actors take the board's newest network."
    versions = [version or 0 for _, version, _, _ in seen.received]
    assert versions == sorted(set(versions)), "receive must get the version that it returned the time before."


def test_prior(student):
    """3 points: a prior actor plays the prior, but the learner's network computes its priorities (Deviation 4)."""
    seen = play(student, 3, prior="a.pt")
    assert seen.loaded[:1] == ["a.pt"], "The prior's file must be loaded, with load."
    actions = {action for game, t, action in seen.env.actions if not (is_dqn(student) and t == 2)}
    assert actions == {2.0}, (
        f"Without noise it played the actions {actions}; {{2}} is right, the prior's"
        + ("." if is_dqn(student) else " (within its bounds)."))
    assert all(block.is_prior for block in seen.deliveries), "A prior's steps were delivered as a nature actor's."
    assert all(block.network.action != 0 for block in seen.deliveries), (
        "The priorities were computed by a network that never received the learner's weights: a prior actor, too, must receive "
        "before each block.")
    assert {0, 1, 2} <= {block for _, _, block, _ in seen.received}, "A prior actor receives before each block, too."
    assert all(block.network.action == 1 for block in seen.deliveries), (
        "The prior's own network computed the priorities; the learner's is meant, which will learn from these steps.")
    assert all(network is block.network for block in seen.deliveries for _, _, _, network in seen.received), (
        "receive must fill the learner's network, the one that computes the priorities; the prior's stays as loaded.")
    assert is_dqn(student) or all(type(block.network) is ActorCritic for block in seen.deliveries), (
        "deliver needs the learner's ActorCritic: its critic takes part in the priorities.")


def test_retirement(student):
    """4 points: "if several times r >= alpha rbar ... replace the current prior actor with a new nature actor"."""
    seen = play(student, 6, prior="a.pt", evaluations=[10.0], block_evaluations=[300.0, 300.0, 50.0, 50.0])
    flags = [block.is_prior for block in seen.deliveries]
    late = [action for game, t, action in seen.env.actions if not (is_dqn(student) and t == 2)][-8:]
    assert not (all(flags) and set(late) == {1.0}), (
        "It plays the learner's actions after the prior's retirement, but delivers them as a prior's.")
    assert any(flags), "The prior never acted, though the evaluations so far were below its average."
    assert not all(flags), "The prior never retired: after each delivery come new evaluations; ask surpassed again, with all of them."
    assert flags == [True, True, False, False, False, False], (
        f"is_prior of six deliveries was {flags}. The second of two high evaluations came with the second delivery, "
        "so the prior acts in two blocks, and never again.")
    assert set(late) == {1.0}, "After its retirement it still plays the prior's actions; the learner's are meant."
    once = play(student, 4, prior="a.pt", evaluations=[300.0])
    assert all(block.is_prior for block in once.deliveries), (
        "One high evaluation counted more than once: deliver returns all evaluations so far, not only the new ones.")
    again = play(student, 1, prior="a.pt", evaluations=[300.0, 300.0])
    assert not again.deliveries[0].is_prior, "Surpassed before it was started (again): join tells the evaluations."


def test_exploration(student):
    """4 points: a nature actor explores by its own epsilon or sigma, a prior actor by the prior's, till it retires."""
    seen, quiet = play(student, 12, noise=1.0), play(student, 12, prior="a.pt", noise=1.0)
    actions = {action for game, t, action in seen.env.actions if not (is_dqn(student) and t == 2)}
    assert len(actions) > 1, "With full exploration a nature actor still played nothing but its network's action."
    if not is_dqn(student):
        lowest, highest = np.min(seen.env.played, 0), np.max(seen.env.played, 0)
        assert (lowest >= [-1, -3]).all() and (highest <= [5, 7]).all(), "Noise took an action out of its bounds: clip it."
    assert all(np.allclose(one, other) for one, other in zip(seen.stored, seen.env.played)), (
        "The action stored is not the one that was played: exploration, and FIRE, belong to it.")
    assert {asked[0] for asked in seen.asked} == {6}, (
        f"epsilon_of or noise_of was asked about the actors {sorted({asked[0] for asked in seen.asked})}; this one is number 6: "
        "each explores with a strength of its own.")
    again, other = (play(student, 12, noise=1.0, index=index) for index in (6, 3))
    assert np.array_equal(again.env.played, seen.env.played), (
        "The same actor, with the same seed, explored differently the second time: seed its generator, by args.seed and index.")
    assert not np.array_equal(other.env.played, seen.env.played), (
        "Actors 3 and 6 took the same random actions: args.seed *and* index seed a generator, else all play the same games.")
    assert None not in seen.env.seeds, "The environment was reset without a seed: then no run can be repeated."
    assert other.env.seeds != seen.env.seeds, (
        "Actors 3 and 6 reset the environment with the same seed: draw it from the actor's own generator.")
    first, reseeded = (play(student, 12, noise=1.0, seed=seed, index=0) for seed in (0, 1))
    assert not np.array_equal(reseeded.env.played, first.env.played) and reseeded.env.seeds != first.env.seeds, (
        "With another args.seed it took the same random actions, or reset the environment with the same seed: args.seed *and* "
        "index seed its generator, else five seeds are one.")
    actions = {action for game, t, action in quiet.env.actions if not (is_dqn(student) and t == 2)}
    assert actions == {2.0}, "A prior actor explored as a nature actor does; prior_epsilon or prior_noise is its own."
    noisy = play(student, 12, prior="a.pt", prior_noise=1.0)
    assert len({action for game, t, action in noisy.env.actions if not (is_dqn(student) and t == 2)}) > 1, (
        "A prior actor played without noise; prior_epsilon or prior_noise is its own: else it replays the same few games.")
    retired = play(student, 12, prior="a.pt", evaluations=[300.0, 300.0], noise=1.0)
    actions = {action for game, t, action in retired.env.actions if not (is_dqn(student) and t == 2)}
    assert len(actions) > 1, "A retired prior still explores as a prior: it is a nature actor now, with its own noise."
    later = play(student, 12, prior="a.pt", block_evaluations=[300.0, 300.0], noise=1.0)
    late = [action for game, t, action in later.env.actions if not (is_dqn(student) and t == 2)][-24:]
    assert len(set(late)) > 1, (
        "A prior that retires in the course of the run keeps its prior's noise: policy *and* noise follow from the role.")
    if is_dqn(student):
        full = [action for _, _, action in play(student, 60, noise=1.0, lives=False).env.actions]
        windows = {tuple(full[i:i + 4]) for i in range(len(full) - 3)}
        assert len(windows) > 0.3 * len(full), "Each block played the same random actions: make the generator once, before the loop."
        assert set(full) == {0.0, 1.0, 2.0, 3.0}, f"Of 4 actions only {sorted(set(full))} ever came at random: draw from all."
        assert np.mean(np.array(full[1:]) == np.array(full[:-1])) < 0.45, (
            "The same random action was played several times in a row: draw it at each step.")
        greedy = np.array([action == 1 for _, _, action in play(student, 60, noise=0.5, lives=False).env.actions])
        assert 0.5 < greedy.mean() < 0.75, f"With epsilon 0.5 and 4 actions {greedy.mean():.0%} were greedy; some 62 % are right."
        assert np.mean(greedy[1:] != greedy[:-1]) > 0.33, (
            "Steps in a row are all random, or all greedy: draw at each step whether to explore.")
        steps = sorted({step for _, step in seen.asked})
        assert steps[:4] == [40, 50, 60, 70], (
            f"epsilon_of was asked with the global steps {steps[:4]}; [40, 50, 60, 70] is right: epsilon falls with the "
            "steps of all actors, so ask before each block.")
        return
    noise = np.array([action - 1 for action in play(student, 60, noise=0.1).env.played])  # sigma 0.1 of 3 and of 5
    assert abs(np.corrcoef(noise.T)[0, 1]) < 0.5, "Both joints got the same noise: each has its own."
    assert abs(np.corrcoef(noise[1:, 0], noise[:-1, 0])[0, 1]) < 0.4, (
        "The noise stays from step to step: draw it anew (Gaussian, not Ornstein-Uhlenbeck).")
    prior = np.array([action - 2 for action in play(student, 60, prior="a.pt", prior_noise=0.1).env.played])
    for who, deviations in (("", noise.std(0)), ("prior's ", prior.std(0))):
        for deviation, right, bounds in zip(deviations, (0.3, 0.5), ("-1 to 5", "-3 to 7")):
            assert 0.73 * right < deviation < 1.33 * right, (
                f"With sigma 0.1 and actions from {bounds} the {who}noise's standard deviation is {deviation:.2f}; {right} is right: "
                "Gaussian, 1 is half of this joint's range, whatever the action.")
    assert lowest[1] < -1 and highest[1] > 5, (
        f"The second joint's bounds are -3 and 7, and with much noise it stayed within {lowest[1]:.2f} and {highest[1]:.2f}: each "
        "joint has bounds of its own.")


def test_fire(student):
    """1 point: in CA2E-DQN the step after a lost life presses FIRE (in CA2E-DDPG, without lives, nothing is special)."""
    # noise, and many blocks, so that a life is lost in a block's last step, too
    plays = [play(student, 5), play(student, 5, prior="a.pt"), play(student, 12, noise=1.0)] if is_dqn(student) else [play(student, 5)]
    pressed = {action for played in plays for game, t, action in played.env.actions if t == 2}
    if is_dqn(student):
        assert pressed == {3.0}, f"After a lost life the action was {pressed}; env.fire, 3 here, is meant."
    else:
        assert pressed == {1.0}, f"In step 2 of a game the action was {pressed}; {{1}} is right, the learner's."


def test_real(student):
    """2 points: two blocks of a nature and of a prior actor, in a real environment, reach a real replay."""
    with real(student, "actor") as (_, _, replay, _, _, act):
        act()
        steps, priors = replay.progress["global_step"], replay.progress["prior_steps"]
    assert 0 < priors < steps, f"Of {steps} steps that reached the replay, {priors} are a prior actor's; a part is meant."


test_real.seconds = 10  # a test that takes longer; it runs once the others pass
