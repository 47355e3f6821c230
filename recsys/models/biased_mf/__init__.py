"""Matrix factorisation of ratings with biases of users and items."""
