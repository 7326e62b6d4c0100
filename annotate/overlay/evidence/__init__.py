"""Evidence of a static overlay: structure that stays in its place while the picture behind it changes."""
