"""`reel generate`: videos from a checkpoint, and the images and videos that they begin with."""
