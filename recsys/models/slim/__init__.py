"""SLIM: sparse non-negative weights of items by items."""
