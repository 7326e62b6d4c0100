"""Rewards over plain HTTP: what a run sends, and who answers."""
