"""Commands for whoever tunes the kernels: what they compile to, and which tiles are fastest."""
