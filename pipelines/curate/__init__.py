"""`reel curate`: from inputs to clips in the store."""
