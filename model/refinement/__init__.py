"""Refinement: a video of the first stage, enlarged, is half drowned in noise and sampled again at the larger size."""
