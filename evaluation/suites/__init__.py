"""Suites of prompts: what every model under comparison is asked for."""
