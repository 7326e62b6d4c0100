"""Shot boundaries: which frames of a source belong to one shot each, and how one gives way to the next.

Three detectors stand behind one interface (`make_detector`); `cascade` is the default. Importing this costs neither
cv2 nor scenedetect: a detector imports its libraries at its first use.
"""

from reelwright.curation.shots.config import ShotConfig
from reelwright.curation.shots.detector import ANALYSIS_WIDTH, ShotDetector, make_detector
from reelwright.curation.shots.detector import VERSION as DETECTOR_VERSION
from reelwright.curation.shots.network import MissingNetwork
from reelwright.curation.shots.types import Shot, Transition, shots_from_transitions

__all__ = [
    "ANALYSIS_WIDTH",
    "DETECTOR_VERSION",
    "MissingNetwork",
    "Shot",
    "ShotConfig",
    "ShotDetector",
    "Transition",
    "make_detector",
    "shots_from_transitions",
]
