"""A GPU that is not there, to find in the learner what a real one would refuse, or wait for.

Tensors that are moved to "cuda" stay on the CPU and are marked, and so is what is computed from them. As with a real
GPU, an operation on a marked and an unmarked tensor fails, and so does numpy on a marked one.
"""

import contextlib

import torch
from torch.utils._pytree import tree_leaves, tree_map_only
from torch.utils._python_dispatch import TorchDispatchMode

CUDA, CPU = torch.device("cuda"), torch.device("cpu")


def marked(tensor):
    return getattr(tensor.untyped_storage(), "on_cuda", False)


def mark(tensor, on_cuda):
    tensor.untyped_storage().on_cuda = on_cuda
    return tensor


class Graph:
    """A CUDA graph: what runs while it is recorded; a replay runs it again, on the same memory, and no Python."""

    def __init__(self):
        self.operations, self.replays = [], 0

    @contextlib.contextmanager
    def record(self, gpu):
        before = gpu.to_cuda, gpu.to_cpu, gpu.reads
        gpu.recording = self.operations
        yield
        gpu.recording = None
        for tensor, value in reversed(gpu.changed):  # a real one runs nothing while it records
            tensor.copy_(value)
        if (gpu.to_cuda, gpu.to_cpu, gpu.reads) != before:
            raise RuntimeError("a copy, or the read of a value, while a graph was recorded")

    @torch.no_grad()
    def replay(self):
        self.replays += 1
        for func, args, kwargs, recorded in self.operations:
            for old, new in zip(tree_leaves(recorded), tree_leaves(func(*args, **kwargs))):
                if isinstance(old, torch.Tensor) and old.data_ptr() != new.data_ptr():  # else a view, or done in place
                    old.copy_(new)


class PretendCuda(TorchDispatchMode):
    """While it is entered, the device cuda works; counts copies in each direction, and reads of a single value."""

    def __init__(self, monkeypatch):
        super().__init__()
        self.to_cuda = self.to_cpu = self.reads = 0
        self.recording, self.changed = None, []
        to, numpy, load = torch.Tensor.to, torch.Tensor.numpy, torch.optim.Adam.load_state_dict

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

        def pretend_load(adam, state):
            load(adam, state)
            for moments in adam.state.values():  # where the parameters are
                moments.update({name: mark(tensor.clone(), True) for name, tensor in moments.items()})

        monkeypatch.setattr(torch.Tensor, "to", pretend_to)
        monkeypatch.setattr(torch.Tensor, "cpu", pretend_cpu)
        monkeypatch.setattr(torch.Tensor, "numpy", pretend_numpy)
        monkeypatch.setattr(torch.optim.Adam, "load_state_dict", pretend_load)
        monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
        monkeypatch.setattr(torch.cuda, "CUDAGraph", Graph)
        monkeypatch.setattr(torch.cuda, "graph", lambda graph: graph.record(self))

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        tensors = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, torch.Tensor)]
        on_cuda = {marked(tensor) for tensor in tensors if tensor.dim() or marked(tensor)}  # scalars go with both
        copies = func is torch.ops.aten.copy_.default
        if len(on_cuda) == 2 and not copies:
            raise RuntimeError(f"{func}: tensors on cuda and on the cpu")
        self.reads += func is torch.ops.aten._local_scalar_dense.default and on_cuda == {True}
        if self.recording is not None and func._schema.is_mutable:
            self.changed += [(tensor.detach(), tensor.detach().clone()) for tensor in tensors]
        result = func(*args, **(kwargs or {}))
        if self.recording is not None:
            memory = tree_map_only(torch.Tensor, torch.Tensor.detach, (args, kwargs or {}, result))  # no autograd
            self.recording.append((func, *memory))
        if True in on_cuda and not copies:
            for leaf in tree_leaves(result):
                if isinstance(leaf, torch.Tensor):
                    mark(leaf, True)
        return result
