"""What every page server of `reel` shares: who may ask, videos by byte range, and starting and stopping."""
