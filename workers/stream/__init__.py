"""The stream worker: from records to state and lists."""
