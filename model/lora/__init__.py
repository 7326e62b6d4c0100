"""LoRA: adapters on linear layers, their files and their FLOPs."""
