"""Making captions from known facts: vocabularies, compositions, translations and summaries."""
