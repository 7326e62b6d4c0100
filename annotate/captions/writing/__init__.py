"""Making captions of what is known: vocabularies, compositions, translations and summaries."""
