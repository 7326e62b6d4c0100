"""Finding pairs of like clips among many, and making groups of them."""
