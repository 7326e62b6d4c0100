"""Small inputs that once came out wrong, curated by `reel curate` and held against what is right."""
