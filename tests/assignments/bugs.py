"""SPOILERS. The bugs that hunt.py plants in ca2e_ddpg_mujoco.py, from easy to hard, each with what shows it.

If you are hunting, close this file: `python tests/assignments/hunt.py N --reveal` shows one at a time.
"""

from dataclasses import dataclass


@dataclass
class Bug:
    edits: list  # (old text, new text)
    story: str  # what it does, and what shows it


BUGS = {
    "sign": Bug([("    return -critic(states, actor(states)).mean()", "    return critic(states, actor(states)).mean()")],
                ""),
    "average": Bug([("soft_update(self.average, self.online.actor, tau=max(AVERAGING, 10 / (10 + self.updates)))",
                     "soft_update(self.average, self.average, tau=max(AVERAGING, 10 / (10 + self.updates)))")], ""),
    "publish": Bug([("if agent.updates % args.publish_frequency == 0:", "if agent.updates == args.publish_frequency:")],
                   ""),
    "target": Bug([("soft_update(self.target, self.online, tau=self.args.tau)",
                    "soft_update(self.online, self.target, tau=self.args.tau)")], ""),
    "critic": Bug([("        loss_theta.backward(inputs=self.theta)", "        loss_theta.backward()")], ""),
    "action": Bug([("store[\"action\"][slots], store[\"return\"]", "store[\"action\"][slots - 1], store[\"return\"]")], ""),
    "gamma": Bug([("        discount *= gamma\n", "        discount *= 1.0\n")], ""),
    "terminal": Bug([("            return total, 0.0, k  #", "            return total, discount, k  #")], ""),
    "retire": Bug([("policy = prior_actor if is_prior else online.actor", "policy = prior_actor if prior else online.actor")],
                  ""),
}
