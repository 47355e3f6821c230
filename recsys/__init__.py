"""The functional core: arrays in, arrays out. No Kafka, no Redis, no clock, no environment."""
