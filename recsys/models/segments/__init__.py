"""Segments of users: what people of one gender, age or interest start with and like."""
