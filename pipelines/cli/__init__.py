"""The `reel` command. Each file adds a few commands; heavy imports happen inside the command that needs them."""

from reelwright.pipelines.cli.app import main

__all__ = ["main"]
