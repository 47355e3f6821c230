"""The trainer: tails the event log, trains in a child process, announces models."""
