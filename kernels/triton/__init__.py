"""The GPU kernels in Triton, their launches and their tile sizes."""
