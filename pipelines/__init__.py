"""What is run: curate, annotate, and the `reel` command. The only code that starts Ray."""
