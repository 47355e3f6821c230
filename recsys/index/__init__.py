"""Search for the largest inner products among many vectors."""
