"""One command for a machine with a GPU: `python -m benchmarks.gpu` measures all that only a GPU can show."""
