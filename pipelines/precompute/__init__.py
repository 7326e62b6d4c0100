"""`reel precompute`: latents and text embeddings of a snapshot, on Ray."""
