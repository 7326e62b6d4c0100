"""Objectives: the losses that a training step can follow."""
