"""Bayesian personalised ranking: a matrix factorisation that learns from pairs of items."""
