"""Naming a camera's motion: tracking, the path over a clip, the classifier, and the virtual camera that trained it."""
