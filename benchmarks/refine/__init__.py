"""Refinement measured: tables of any input, and a small network that refines real footage."""
