"""Commands to tune the kernels: the code they compile to, and the fastest tiles."""
