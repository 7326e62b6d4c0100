"""Weights on disk: safetensors files, and the folders or hub ids of pretrained networks."""
