"""A little image game, and ca2e_dqn_atari.py playing it: `python tests/catch_game.py --num-prior-actors 0 ...`.

Five balls fall, one after another, through a field of 4 x 4 cells of 21 pixels; the paddle in the bottom row catches
one (+1) or misses it (-1). Whatever the columns, a paddle that runs under the ball is there in time, so the best
return is 5; one that stands still gets 5 / 4 - 5 * 3 / 4 = -2.5 on average.
"""

import sys
from pathlib import Path

import numpy as np
from gymnasium.spaces import Box, Discrete

sys.path.insert(0, str(Path(__file__).parents[1]))
import ca2e_dqn_atari as ca2e  # noqa: E402

BALLS, CELLS, PIXELS = 5, 4, 21


class CatchEnv:
    """num_envs games, stepped like ale-py's vector environment: stacks of 4, next-step autoreset, no lives."""

    def __init__(self, num_envs):
        self.games = [None] * num_envs
        self.single_observation_space, self.single_action_space = Box(0, 255, (4, 84, 84), np.uint8), Discrete(3)
        self.stacks, self.fire = np.zeros((num_envs, 4, 84, 84), np.uint8), 1

    def reset(self, seed=None):
        self.rng = np.random.default_rng(seed)
        for i in range(len(self.games)):
            self._start(i)
        return self.stacks.copy(), {"lives": np.zeros(len(self.games), np.int32)}

    def _start(self, i):
        self.games[i] = {"row": 0, "column": int(self.rng.integers(CELLS)), "paddle": CELLS // 2, "balls": 0}
        self.stacks[i] = 0
        self._draw(i)

    def _draw(self, i):
        game, cells = self.games[i], np.zeros((CELLS, CELLS), np.uint8)
        cells[-1, game["paddle"]] = 120
        cells[game["row"], game["column"]] = 255
        self.stacks[i, :-1] = self.stacks[i, 1:]
        self.stacks[i, -1] = np.kron(cells, np.ones((PIXELS, PIXELS), np.uint8))

    def step(self, actions):
        rewards, over = np.zeros(len(self.games), np.int32), np.zeros(len(self.games), bool)
        for i, (game, action) in enumerate(zip(self.games, actions)):
            if game["balls"] == BALLS:  # the game had ended: the action is ignored
                self._start(i)
                continue
            game["paddle"] = int(np.clip(game["paddle"] + action - 1, 0, CELLS - 1))
            game["row"] += 1
            if game["row"] == CELLS - 1:
                rewards[i] = 1 if game["paddle"] == game["column"] else -1
                game["balls"] += 1
                over[i] = game["balls"] == BALLS
                if not over[i]:
                    game["row"], game["column"] = 0, int(self.rng.integers(CELLS))
            self._draw(i)
        return self.stacks.copy(), rewards, over, np.zeros(len(over), bool), {"lives": np.zeros(len(over), np.int32)}


def make_atari(env_id, num_envs=1):
    return CatchEnv(num_envs)


def replace_atari(replace):
    """Puts the little game in the place of Atari, by replace(module, name, function)."""
    replace(ca2e, "make_atari", make_atari)


if __name__ in ("__main__", "__mp_main__"):  # so in every child process too, which imports this file first
    replace_atari(setattr)

if __name__ == "__main__":
    ca2e.main(ca2e.parse())
