"""VBench and VBench-2.0: their prompts in, files as they expect them out, and their results read back."""
