"""EASE: a linear model of items by items in closed form."""
