"""The diffusion transformer, its codecs and text encoders, LoRA, sampling, and weight files."""
