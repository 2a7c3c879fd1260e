"""The search for C: CMA-ES, its loop and its state."""
