"""Commands of `reel`, one file each. A new one is found by being here, or by an entry point `reelwright.commands`."""
