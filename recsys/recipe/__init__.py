"""Recipes that learn from a log: replay, fit, judge."""
