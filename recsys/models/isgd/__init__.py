"""Incremental SGD: a matrix factorisation in one pass over the events."""
