"""Two towers: a vector of a user from history and profile, a vector of an item from its id and what it says."""
