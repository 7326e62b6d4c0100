"""Ranks: the world they form, FSDP2, and context parallelism by Ulysses or a ring."""
