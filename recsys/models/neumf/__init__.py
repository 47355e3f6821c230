"""NeuMF: an inner product of user and item, and a small network that reads both."""
