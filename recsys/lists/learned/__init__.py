"""Learned rankers: features of what a recipe ranked first, trees over them, and lists ranked again by both."""
