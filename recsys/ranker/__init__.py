"""Learned rankers that learn from a log: replay, trees, position bias."""
