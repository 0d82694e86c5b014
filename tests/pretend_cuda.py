"""A GPU that is not there, to find in the learner what a real one would refuse, or wait for.

Tensors that are moved to "cuda" stay on the CPU and are marked, and so is what is computed from them. As with a real
GPU, an operation on a marked and an unmarked tensor fails, and so does numpy on a marked one.
"""

import torch
from torch.utils._pytree import tree_leaves
from torch.utils._python_dispatch import TorchDispatchMode

CUDA, CPU = torch.device("cuda"), torch.device("cpu")


def marked(tensor):
    return getattr(tensor.untyped_storage(), "on_cuda", False)


def mark(tensor, on_cuda):
    tensor.untyped_storage().on_cuda = on_cuda
    return tensor


class PretendCuda(TorchDispatchMode):
    """While it is entered, the device cuda works; counts copies in each direction, and reads of a single value."""

    def __init__(self, monkeypatch):
        super().__init__()
        self.to_cuda = self.to_cpu = self.reads = 0
        to, numpy = torch.Tensor.to, torch.Tensor.numpy

        def pretend_to(tensor, *args, **kwargs):
            if CUDA not in (*args, *kwargs.values()):
                return to(tensor, *args, **kwargs)
            args = [CPU if arg == CUDA else arg for arg in args]
            kwargs = {name: CPU if value == CUDA else value for name, value in kwargs.items()}
            self.to_cuda += not marked(tensor)
            return mark(to(tensor, *args, **kwargs).clone(), True)

        def pretend_cpu(tensor):
            self.to_cpu += marked(tensor)
            return mark(tensor.clone(), False) if marked(tensor) else tensor

        def pretend_numpy(tensor):
            if marked(tensor):
                raise TypeError("can't convert a cuda tensor to numpy")
            return numpy(tensor)

        monkeypatch.setattr(torch.Tensor, "to", pretend_to)
        monkeypatch.setattr(torch.Tensor, "cpu", pretend_cpu)
        monkeypatch.setattr(torch.Tensor, "numpy", pretend_numpy)
        monkeypatch.setattr(torch.cuda, "is_available", lambda: True)

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        tensors = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, torch.Tensor)]
        on_cuda = {marked(tensor) for tensor in tensors if tensor.dim() or marked(tensor)}  # scalars go with both
        copies = func is torch.ops.aten.copy_.default
        if len(on_cuda) == 2 and not copies:
            raise RuntimeError(f"{func}: tensors on cuda and on the cpu")
        self.reads += func is torch.ops.aten._local_scalar_dense.default and on_cuda == {True}
        result = func(*args, **(kwargs or {}))
        if True in on_cuda and not copies:
            for leaf in tree_leaves(result):
                if isinstance(leaf, torch.Tensor):
                    mark(leaf, True)
        return result
