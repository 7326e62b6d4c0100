"""Weights in and out of training, in the published layouts and those of other projects."""
