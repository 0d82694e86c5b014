"""Not in the paper: the learner also imitates the best prior, the less the nearer it comes to it.

    python benchmark/distill.py ca2e_ddpg_mujoco --env-id Hopper-v5 --total-timesteps 100000 --tau 0.005 --critic-l2 0
    python benchmark/distill.py ca2e_dqn_atari --env-id PongNoFrameskip-v4 ...     # and any other flag of the script

The second term in the loss is that of kickstarting (Schmitt et al. 2018). Its weight, `pull`, follows the learner's
return, as in QDagger (Agarwal et al. 2022, whose pretraining is left out): from 1 at the first evaluation to 0 at the
prior's own return; it rises again where the learner falls back. DQN's term is QDagger's, the cross entropy of the
policies softmax(q / 0.1). DDPG's is our analogue, the squared gap of the actions, beside q-values scaled to a mean
size of 1, as in TD3+BC (Fujimoto and Gu 2021), so `losses/actor_loss` is not minus a q-value. Actors, replay and
retirement are the script's. An early first evaluation (--eval-frequency) lets the pull fall sooner.
"""

import importlib
import sys
from pathlib import Path

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).parents[1]))
import ca2e_ddpg_mujoco as ddpg  # noqa: E402
import ca2e_dqn_atari as dqn  # noqa: E402


def pull_of(evaluations: list[float], average_return: float) -> float:
    """The term's weight: 1 up to the first evaluation, 0 once the last three average the prior's own return."""
    if not evaluations:
        return 1.0
    left = average_return - np.mean(evaluations[-3:])
    return float(np.clip(left / max(1e-6, average_return - evaluations[0]), 0, 1))


def action_gap(actor, teacher, states) -> torch.Tensor:
    """Mean squared difference of the actions, 1 is half of their range: states (B, 1, observation) -> a scalar."""
    return ((actor(states) - teacher(states)) / actor.scale).square().mean()


def cross_entropy(q_values, teacher_q, temperature: float = 0.1) -> torch.Tensor:
    """How far the policy softmax(q / temperature) is from the teacher's: (B, actions), both -> (B,)."""
    return -(torch.softmax(teacher_q / temperature, 1) * torch.log_softmax(q_values / temperature, 1)).sum(1)


class Teacher:
    """What DQN and DDPG get besides: the best prior's network and average return, and its pull."""

    def __init__(self, args, env, device, *cores):
        super().__init__(args, env, device, *cores)
        folder, self.teacher = Path(args.prior_dir, args.env_id), type(self.average)(env)
        priors = {file: self.script.load(file, args.env_id)["average_return"] for file in sorted(folder.glob("*.pt"))}
        if not priors:
            sys.exit(f"error: {folder} holds no prior to imitate")
        best = max(priors, key=priors.get)
        self.teacher_return = self.script.load(best, args.env_id, network=self.teacher)["average_return"]
        self.teacher.requires_grad_(False).to(device)
        self.pull = torch.ones(()).to(device)  # filled in place: a CUDA graph reads it from there


class DistilledDQN(Teacher, dqn.DQN):
    script = dqn

    def loss(self, states, actions, returns, discounts, next_states, weights):
        """DQN.loss and the term."""
        target = dqn.td_target(self.online, self.target, returns, discounts, next_states)
        all_q = self.online(states)  # (B, actions)
        q_values = all_q.gather(1, actions[:, None]).squeeze(1)
        td_errors = target - q_values
        term = self.pull * cross_entropy(all_q, self.teacher(states)) * (weights > 0)  # 0: overwritten meanwhile
        loss = (weights * 0.5 * td_errors.square() + term).sum() / self.args.batch_size
        return loss, td_errors.detach(), q_values.detach()


class DistilledDDPG(Teacher, ddpg.DDPG):
    script = ddpg

    def learn(self, batch):
        """DDPG.learn and the term."""
        states, actions, returns, discounts, next_states, weights = batch
        target = ddpg.td_target(self.target.actor, self.target.critic, returns, discounts, next_states)
        q_values = self.online.critic(states, actions)
        loss_omega = (weights * 0.5 * (target - q_values).square()).mean()
        size = q_values.detach().abs().mean().clamp_min(1e-3)
        loss_theta = ddpg.actor_loss(self.online.actor, self.online.critic, states) / size
        loss_theta = loss_theta + self.pull * action_gap(self.online.actor, self.teacher, states)
        self.adam.zero_grad()
        loss_omega.backward(inputs=self.omega)
        loss_theta.backward(inputs=self.theta)
        self.adam.step()
        ddpg.soft_update(self.target, self.online, tau=self.args.tau)
        return [each.detach() for each in (target - q_values, loss_omega, loss_theta, q_values.mean())]


def pulled(learner):
    """The script's learner; after each of its calls to the replay the pull follows the evaluations."""
    def pull_and_learn(args, agent, *others):
        for progress, events, metrics, *more in learner(args, agent, *others):
            agent.pull.fill_(pull_of(progress["evaluations"], agent.teacher_return))
            yield progress, events, {**metrics, "losses/pull": agent.pull}, *more
    return pull_and_learn


def main() -> None:
    """Puts the classes above in the place of the script's, and runs its main with the other arguments."""
    if len(sys.argv) < 2 or sys.argv[1] not in (dqn.__name__, ddpg.__name__):
        sys.exit(f"error: name the script first, {dqn.__name__} or {ddpg.__name__}; then its flags")
    script = importlib.import_module(sys.argv.pop(1))
    sys.argv[0] += f" {script.__name__}"  # in the command to go on with
    script.ALGO += "-distilled"
    dqn.DQN, ddpg.DDPG, script.learner = DistilledDQN, DistilledDDPG, pulled(script.learner)
    script.main(script.parse())


if __name__ == "__main__":
    try:
        main()
    except (OSError, KeyboardInterrupt) as end:  # as in the scripts
        sys.exit(f"error: ended by {end!r}; what was saved before is intact")
