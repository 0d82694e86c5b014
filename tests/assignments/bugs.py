"""SPOILERS. The bugs that hunt.py plants in ca2e_ddpg_mujoco.py, each with what shows it.

If you are hunting, close this file: `python tests/assignments/hunt.py N --reveal` shows one at a time.
"""

from dataclasses import dataclass


@dataclass
class Bug:
    edits: list  # (old text, new text)
    story: str  # what it does, and what shows it


BUGS = {
    "sign": Bug(
        [("    return -critic(states, actor(states)).mean()", "    return critic(states, actor(states)).mean()")],
        "The actor climbs down the critic: it learns the worst action. All returns of the learner fall to 2 and stay there, "
        "while the prior actors play on as ever. losses/actor_loss is above 0: it should be minus a mean q."),
    "average": Bug(
        [("soft_update(self.average, self.online.actor, tau=max(AVERAGING, 10 / (10 + self.updates)))",
          "soft_update(self.average, self.average, tau=max(AVERAGING, 10 / (10 + self.updates)))")],
        "The averaged network averages itself: it stays as it was at the start. It is what the evaluator plays and what is "
        "saved, so charts/eval_return stands still, and no prior retires; yet charts/episodic_return rises to hundreds, "
        "since actors play the newest network. Two curves of the same agent that disagree: who plays which network?"),
    "publish": Bug(
        [("if agent.updates % args.publish_frequency == 0:", "if agent.updates == args.publish_frequency:")],
        "The learner publishes once and never again. charts/eval_return and charts/episodic_return both stand still, as if "
        "nothing were learned; but q_values rise: the learner does learn, from others' data, and tells no one. So the final "
        "20 episodes, played by the learner's own average, may be good."),
    "target": Bug(
        [("soft_update(self.target, self.online, tau=self.args.tau)",
          "soft_update(self.online, self.target, tau=self.args.tau)")],
        "Source and target are swapped: each update pulls the online networks back to where they began. q_values stay "
        "near 2, and td_loss near 0: nothing that was learned reaches the target."),
    "critic": Bug(
        [("        loss_theta.backward(inputs=self.theta)", "        loss_theta.backward()")],
        "The actor's loss also trains the critic, to call everything good: q_values pass 100, which no discounted return can reach "
        "(1 / (1 - gamma)), and go on rising; td_loss is 20 to 300 times as large; the agent falls at once."),
    "action": Bug(
        [("store[\"action\"][slots], store[\"return\"]", "store[\"action\"][slots - 1], store[\"return\"]")],
        "Each state is paired with the action of the step before (Python takes slot -1 without a word). Nothing breaks; the "
        "critic learns, but not what an action does: q_values reach half of the healthy run's, and the agent hardly improves."),
    "gamma": Bug(
        [("total, discount, k = total + discount * reward, discount * gamma, k + 1",
          "total, discount, k = total + discount * reward, discount, k + 1")],
        "Nothing is discounted. The agent balances all the same. But q_values pass 100, the most that is possible with "
        "gamma = 0.99, and go on rising: without discount a pole that stays up has infinite value. The losses rise with them."),
    "terminal": Bug(
        [("            return total, 0.0, k  #", "            return total, discount, k  #")],
        "The return bootstraps where the pole has fallen, as if the game went on. The agent balances all the same. But "
        "td_loss is a small part of the healthy run's, since a fall surprises no one, and q_values are higher."),
    "retire": Bug(
        [("policy = prior_network if is_prior else online.actor", "policy = prior_network if prior else online.actor")],
        "A retired prior goes on playing the prior, but its steps are delivered as a nature actor's. priors/acting and the "
        "greedy return are as in the healthy run. But where the healthy nature actors hardly end a game any more, episodes of some 100 to "
        "400 steps go on ending in charts/episodic_return."),
}
