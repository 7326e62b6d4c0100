"""Inputs of a run: folders, files, globs, URIs and manifests, resolved into a sorted list with spans and captions."""
