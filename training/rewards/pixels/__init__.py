"""Measures of a video's pixels, which rewards share."""
