"""Models that annotators load: encoders, detectors, classifiers, and the identity of their weights."""
