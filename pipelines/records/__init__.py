"""The records that a run leaves in the store: rows, commits in a safe order, and the history that a rerun reads."""
