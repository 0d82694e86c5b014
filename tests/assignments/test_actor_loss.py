"""actor_loss(actor, critic, states) -> a scalar: minus the mean of q(s, pi(s))."""

import torch
from common import NONE, expect, numbers


class Actor(torch.nn.Module):
    """pi(s) = theta s."""

    def __init__(self, theta):
        super().__init__()
        self.theta = torch.nn.Parameter(torch.tensor(theta))

    def forward(self, states):
        return self.theta * states.flatten(1)


class Critic(torch.nn.Module):
    """q(s, a) = omega a (4.5 - s - a / 10)."""

    def __init__(self):
        super().__init__()
        self.omega = torch.nn.Parameter(torch.tensor(1.0))

    def forward(self, states, actions):
        assert states.ndim == 3 and actions.ndim == 2, "The critic takes states (B, 1, n) first, then actions (B, m)."
        return (self.omega * actions * (4.5 - states.flatten(1) - actions / 10))[:, 0]


def example():
    """Three states of one number each; q is above 0 in some, below in others; the largest action lies beyond 1."""
    rng = numbers()
    states = torch.tensor([*rng.permutation(4)[:2] + 1.0, 5.0 + rng.integers(3)], dtype=torch.float32)[:, None, None]
    return states, Actor(float(rng.choice([0.55, 0.65, 0.85]))), Critic()


def test_value(student):
    """2 points: the loss of three states."""
    states, actor, critic = example()
    actions = actor(states).detach()
    q, cut, opposite = (critic(states, a).detach().numpy() for a in (actions, actions.clamp(-1, 1), -actions))
    expect(student.actor_loss(actor, critic, states), -q.mean(), f"actor_loss with pi(s) = {actor.theta.item():.2f} s, "
           f"q(s, a) = a (4.5 - s - a / 10), states {states.flatten().tolist()}", {
        "The minus is missing: the optimizer minimises, and q must grow.": q.mean(),
        "This is the sum; the mean is meant.": -q.sum(),
        "This is the sum, without the minus.": q.sum(),
        "This is one number a state; take the mean.": -q,
        "This is one number a state, without the minus.": q,
        "q is squared here: the actor's loss is no error to be brought to 0, but -q.": (q**2).mean(),
        "q is squared here: the loss is -q, not minus its square.": -(q**2).mean(),
        "This is half of the squared q: the actor's loss is no error, but -q.": 0.5 * (q**2).mean(),
        "This is the absolute value of q: the actor's loss is -q.": abs(q).mean(),
        "This is minus the absolute value of q: q may be below 0, and must grow even so.": -abs(q).mean(),
        "This is the best one of the batch; the mean is meant.": -q.max(),
        "The actions are cut here; the actor's tanh keeps them in their bounds, which may be wider than -1 to 1.": -cut.mean(),
        "The minus belongs before the critic, not before its action.": opposite.mean(),
        "This is always 0: no mean is to be subtracted.": 0.0,
        "This is q times the action, as if the policy were stochastic; the loss is -q.":
            -(q * actor(states).detach().numpy()[:, 0]).mean()})


def test_gradient(student):
    """3 points: the gradient reaches the actor through the action."""
    states, actor, critic = example()
    s = states.flatten()
    loss = student.actor_loss(actor, critic, states)
    assert loss is not None, NONE
    assert getattr(loss, "requires_grad", False), (
        "The loss has no gradient: the actor learns through q(s, pi(s)), so no detach, no no_grad, no numpy.")
    assert actor.theta.grad is None, "It called backward itself: return the loss; who calls actor_loss does the rest."
    loss.backward()
    assert actor.theta.grad is not None, (
        "No gradient reaches the actor: it learns through q(s, pi(s)), so its actions must not be detached.")
    right = -(s * (4.5 - s) - actor.theta.detach() * s**2 / 5).mean()  # d/dtheta of -theta s (4.5 - s - theta s / 10)
    expect(actor.theta.grad, right, "d loss / d theta", {"This climbs down the critic: the minus is missing.": -right})


def test_critic_stays(student):
    """1 point: the critic, which another loss trains, stays as it is."""
    states, actor, critic = example()
    assert student.actor_loss(actor, critic, states) is not None, NONE
    assert critic.omega.requires_grad, "It switched off the critic's gradients, for good: the critic's own loss needs them."
    assert critic.omega.item() == 1.0, "It changed the critic."
