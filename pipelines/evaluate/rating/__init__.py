"""People rate generations: studies in the store, pages served on loopback, one file to send out."""
