"""The `reel` command. Heavy imports happen inside the command that needs them."""
