"""`evaluate`: the table of what each depth is worth, for the base's own exits and the sorted model in every kernel."""
