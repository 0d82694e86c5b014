"""The repository's root, where the scripts lie, on the import path; no GPU; one torch thread; the longest tests first."""

import os
import sys
from pathlib import Path

os.environ["CUDA_VISIBLE_DEVICES"] = ""  # the same everywhere; GPUs are for benchmark/gpu.py

import torch  # noqa: E402

sys.path.insert(0, str(Path(__file__).parents[1]))
torch.set_num_threads(1)


def pytest_collection_modifyitems(items):
    """The longest first, so that two workers end together."""
    items.sort(key=lambda item: ("test_the_whole_pipeline" not in item.nodeid, "test_processes" not in item.nodeid))
