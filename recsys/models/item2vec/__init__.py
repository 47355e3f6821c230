"""item2vec: items as words, histories as sentences."""
