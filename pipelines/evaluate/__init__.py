"""Evaluation of checkpoints: generating a suite on Ray, rating pages, reports, and the way back to the footage."""
