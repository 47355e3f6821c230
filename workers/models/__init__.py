"""Stored models and their announcements."""
