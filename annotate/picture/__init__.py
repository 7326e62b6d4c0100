"""Annotators of single pictures: sharpness, light, texture, aesthetics, hashes, embeddings, facts of the file."""
