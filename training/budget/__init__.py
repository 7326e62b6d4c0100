"""Memory and throughput of a training run, estimated and measured."""
