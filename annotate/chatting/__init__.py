"""What annotators that ask chat models share: what is shown, what is said, and what an answer must pass."""
