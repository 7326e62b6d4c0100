"""`reel balance`: how evenly clips cover their categories, and the conditions over clips that people type."""
