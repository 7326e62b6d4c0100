"""What became of the footage: runs, trained models, generations, people's scores, and the commands that make them."""
