"""`reel trace`: from one bad generation to the training clips nearest to it, and to what is known of them."""
