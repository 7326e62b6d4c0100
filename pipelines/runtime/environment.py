"""Defaults of the environment of our processes, unless it is set already."""

import os


def set_process_defaults() -> None:
    """Call it before torch is imported, which sets up threads and allocators by the environment."""
    # OpenMP threads that spin while they wait make a loaded machine five times slower (seen).
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    # Buckets of many shapes leave GPU memory in pieces that fit nothing else; segments that grow do not. PyTorch's name
    # for it was PYTORCH_CUDA_ALLOC_CONF until 2.9.
    if "PYTORCH_CUDA_ALLOC_CONF" not in os.environ:
        os.environ.setdefault("PYTORCH_ALLOC_CONF", "expandable_segments:True")
