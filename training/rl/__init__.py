"""Reinforcement learning: rollouts, their rewards and advantages, made into batches for an objective."""
