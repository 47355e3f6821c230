"""Judging models and lists."""
