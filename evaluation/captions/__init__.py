"""Measures of captions: events found and invented, words, camera terms, CIDEr."""
