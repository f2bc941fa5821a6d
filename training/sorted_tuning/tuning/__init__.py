"""`tune`: the training loop and its parts."""
