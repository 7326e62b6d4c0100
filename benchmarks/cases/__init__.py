"""Small inputs that once came out wrong, curated by `reel curate` and compared with the truth."""
