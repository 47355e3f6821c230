"""Popularity as a model."""
