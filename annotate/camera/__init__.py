"""The camera's motion: measured between frames, described over a clip, and named by a small trained classifier."""
