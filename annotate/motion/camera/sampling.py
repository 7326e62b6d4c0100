"""Which frames of a clip the camera's motion is measured on."""

from reelwright.curation.media.frames import Frames

SAMPLING = Frames(rate=10, least=10, height=144, color="gray")
"""Ten per second catch slow and fast movement; clips too short for that are sampled more densely."""
