"""The commands: curate, annotate, train and the rest of `reel`. The only code that starts Ray."""
