"""Timings; each prints ratios against a named peer or floor measured in the same run."""
