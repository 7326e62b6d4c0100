"""Annotators of movement over time: optical flow, movement of the camera, combed lines of interlaced film."""
