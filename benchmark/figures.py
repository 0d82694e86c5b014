"""Draws every picture of benchmark/results again, from the CSVs there: python benchmark/figures.py (half a minute)."""

import curves
import figure3
import inside
import speed


def main() -> None:
    arms = [("ca2e", "CA2E-DDPG", ""), ("no_prior", "without priors", "")]
    curves.plot("pendulum.png", "InvertedPendulum-v5", *(
        f"invertedpendulum_{kind}_s{seed}={label}, seed {seed}{shift}" for kind, label, shift in arms for seed in (1, 2, 3)))
    curves.plot("pong.png", "Pong", "pong_ca2e_s1=CA2E-DQN, seed 1=1972000", "pong_ca2e_s2=CA2E-DQN, seed 2=1972000",
                "pong_ca2e_second_s1=CA2E-DQN, seed 1, second edition=1972000",
                "pong_no_prior_s1=without priors, seed 1", "pong_no_prior_s2=without priors, seed 2",
                "pretrain_Pong_n-step-double-dqn_s1=the best prior's own training")
    figure3.plot()
    figure3.ablations()
    inside.plot("hopper_ca2e_s1_1m", "hopper_no_prior_s1_1m", "reacher_ca2e_s1")
    speed.plot_scaling()


if __name__ == "__main__":
    main()
