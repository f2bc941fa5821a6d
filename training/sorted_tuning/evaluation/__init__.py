"""Measures of a sorted model: against the base on held-out documents, and by right answers of a server."""
