"""Media: the only code that runs ffmpeg or a decoder."""
