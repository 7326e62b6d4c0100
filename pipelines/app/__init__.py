"""`reel app`: the server and the page on which people look at clips, decide about them and freeze what they see."""
