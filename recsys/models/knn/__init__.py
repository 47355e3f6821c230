"""Nearest neighbours: of items, or of users."""
