"""Texts known by 128-bit keys: hashed by columns, sorted on disk, found without being held."""
