"""Weights on disk: published checkpoints, single files and pretrained encoders."""
