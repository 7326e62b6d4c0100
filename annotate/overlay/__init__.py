"""Static overlays: what stays in its place while the picture behind it changes."""
