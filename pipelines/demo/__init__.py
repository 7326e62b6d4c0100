"""A demonstration that needs no download: footage drawn by code, with the traps that a pipeline must notice."""
