"""A list from beginning to end."""
