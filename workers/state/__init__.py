"""The state as workers see it: the contract of a store, its layout, event time."""
