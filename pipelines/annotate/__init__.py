"""`reel annotate`: columns of clips, by annotators in their order, on Ray."""
