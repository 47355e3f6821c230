"""Popularity as a model: the baseline."""
