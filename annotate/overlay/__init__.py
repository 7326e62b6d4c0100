"""Annotators of overlays: burnt-in text, watermarks, logos."""
