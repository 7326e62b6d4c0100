"""Annotators of movement over time: optical flow, what the camera does, combed lines of interlaced film."""
