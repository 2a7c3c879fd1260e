"""Running policies: episodes of the real game, and whole populations in the dream."""
