"""soft_update(target, source, tau): target <- (1 - tau) target + tau source, each parameter, in place."""

import numpy as np
import torch
from common import expect, numbers


def example():
    """Two networks of two layers within two others, whose parameters are round numbers."""
    rng = numbers()
    networks = [torch.nn.Sequential(torch.nn.Sequential(torch.nn.Linear(2, 1), torch.nn.LayerNorm(1))) for _ in range(2)]
    with torch.no_grad():
        for network, number in zip(networks, rng.permutation(9) + 1.0):
            network[0][0].weight.copy_(torch.tensor([[number, number + rng.integers(10, 20)]]))
            network[0][0].bias.copy_(torch.tensor([number + 30]))
            network[0][1].weight.copy_(torch.tensor([number + 50]))
            network[0][1].bias.copy_(torch.tensor([number + 70]))
    return networks


def vector(network):
    return np.concatenate([tensor.detach().numpy().ravel().copy() for tensor in network.parameters()])


def check(student, tau):
    target, source = example()
    t, s = vector(target), vector(source)
    student.soft_update(target, source, tau)
    right = (1 - tau) * t + tau * s
    what = f"After soft_update(target, source, tau={tau}) the target, [Linear's weights, bias, LayerNorm's weight, bias], once {shown(t)}, source {shown(s)},"
    matrices, others, linear = (np.where(np.isin(range(5), moves), right, t) for moves in ([0, 1], [2, 3, 4], [0, 1, 2]))
    moved = (1 - tau) * s + tau * t
    expect(vector(source), s, f"After soft_update(target, source, tau={tau}) the source, which must stay as it is "
           "(only the target moves),")
    assert all(tensor.requires_grad for tensor in source.parameters()), "It switched off the source's gradients: then it learns no more."
    twice = right + tau * (s - right)
    thrice = twice + tau * (s - twice)
    expect(vector(target), right, what, {
        "This is the source: tau is not used.": s,
        "Nothing happened: parameters are changed in place, with copy_ or lerp_.": t,
        "The roles of tau and 1 - tau are swapped.": moved,
        "This adds tau * source, without (1 - tau) on the target.": t + tau * s,
        "The target only shrinks: tau * source is missing.": (1 - tau) * t,
        "This is tau * source alone.": tau * s,
        "The bias was left out: every parameter moves.": matrices,
        "Only the bias was moved: every parameter moves.": others,
        "Only the Linear layer was moved: other layers, as LayerNorm, have parameters, too.": linear,
        "This moved each parameter twice.": twice,
        "This moved each parameter several times: modules() and parameters() both go down into all layers.": thrice,
        "This moves away from the source: the sign is wrong.": (1 + tau) * t - tau * s})


def shown(values):
    return [round(float(value), 3) for value in values]


def test_half(student):
    """2 points: tau = 0.25."""
    check(student, 0.25)


def test_copy(student):
    """1 point: tau = 1 is a plain copy."""
    check(student, 1.0)


def test_stays_a_copy(student):
    """2 points: after a copy, the two networks still have memory of their own."""
    check(student, 1.0)
    target, source = example()
    student.soft_update(target, source, 1.0)
    before = vector(target)
    with torch.no_grad():
        for tensor in source.parameters():
            tensor += 1.0
    expect(vector(target), before, "After a copy, and then a change of the source, the target", {
        "The target is the source now: both share one memory. Copy the numbers instead.": vector(source)})


def test_in_place(student):
    """2 points: the parameters stay the same objects: optimizers and others hold on to them."""
    check(student, 0.25)
    target, source = example()
    held, memory = list(target.parameters()), [tensor.detach() for tensor in target.parameters()]
    student.soft_update(target, source, 0.25)
    assert all(one is other for one, other in zip(held, target.parameters())), (
        "The target has new parameters; whoever holds the old ones would not see a change. Change them in place.")
    assert all(torch.equal(one, other) for one, other in zip(memory, target.parameters())), (
        "The parameters have new memory (t.data = ... gives it to them); who holds the old one, such as a recorded update on a "
        "GPU, sees no change. Change them in place.")
    assert all(tensor.grad_fn is None for tensor in target.parameters()), (
        "The target's parameters carry a history of gradients: see torch.no_grad.")
