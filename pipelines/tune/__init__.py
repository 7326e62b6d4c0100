"""Tuning on a store: the command, measures of captions, and the gate between two captioners."""
