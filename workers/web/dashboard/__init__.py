"""The dashboard: pages for people, in front of the same state and topics as the gateway."""
