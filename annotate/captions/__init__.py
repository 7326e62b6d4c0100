"""Annotators of words: captions, their rewrites and embeddings, and how a clip is filmed in fixed terms."""
