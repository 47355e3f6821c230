"""Kafka: connections, topics, rights, reading within bounds, sending whole batches."""
