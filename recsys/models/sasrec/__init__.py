"""SASRec, self-attention over a history."""
