"""`recsys demo`: the whole system on this machine, fed with MovieLens 100K."""
