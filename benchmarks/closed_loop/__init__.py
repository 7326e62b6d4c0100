"""A category starved on purpose: found by evaluation, weighed up, trained again, and better."""
