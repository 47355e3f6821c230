"""Items and their content features."""
