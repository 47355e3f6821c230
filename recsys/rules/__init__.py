"""The language of rules: conditions about items and users, in a subset of CEL, checked and evaluated on arrays."""
