"""Annotators of what is laid over the picture: burnt-in text, watermarks, logos."""
