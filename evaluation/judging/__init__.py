"""Models as judges of generations: a chat model by dimension, and rewards that no model under test learned from."""
