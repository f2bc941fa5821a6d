"""Prompt exits (SwiftKV, arXiv 2410.03960): deeper keys and values follow from the states of one layer."""
