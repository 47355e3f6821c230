"""Lists of items, beside the lists of users: what goes with an item, and what rises in a category."""
