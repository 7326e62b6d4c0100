"""The GPU kernels in Triton, what launches them, and their tile sizes."""
