"""From a snapshot's clips to batches: buckets, schedule, latents and text states, loader."""
