"""`reel checkpoint`: weights in and out, in the published layouts."""
