"""`evaluate`: the quality of each depth, for the base's own exits and the sorted model in every kernel."""
