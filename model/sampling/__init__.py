"""Sampling: noise schedules, guidance, solvers and the generator of videos."""
