"""What annotators run models on: engines in this process and servers."""
