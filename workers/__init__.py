"""The imperative shell: Kafka, Redis, Faust, files, clocks and the command line."""
