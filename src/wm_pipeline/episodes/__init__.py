"""Episodes: one of them, sets of them on disk, and their frames and sequences as batches."""
