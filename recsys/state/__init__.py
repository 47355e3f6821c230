"""The learnt state as arrays and packed rows: histories, neighbours, popularity."""
