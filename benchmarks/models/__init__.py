"""Models on public splits, beside published figures and other libraries run on the same split."""
