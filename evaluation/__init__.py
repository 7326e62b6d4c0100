"""What a model is worth: suites of prompts, measures of generated videos, ratings and their statistics. No Ray."""
