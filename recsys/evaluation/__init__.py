"""Evaluation of models: metrics, protocol, and the gate between champion and challenger."""
