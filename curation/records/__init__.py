"""What a run leaves in a store: rows, commits in a safe order, the history that a rerun reads, and its status."""
