"""`reel train`: one run per recipe and snapshot, here, under torchrun or on Ray Train."""
