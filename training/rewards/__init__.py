"""Rewards: each file here is one, known by the file's name; what several share lies in folders below."""
