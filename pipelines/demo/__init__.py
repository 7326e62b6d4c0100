"""A demonstration that needs no download: footage drawn by code, with what a pipeline must notice in it."""
