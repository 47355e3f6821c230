"""Broker, Valkey and workers on this machine."""
