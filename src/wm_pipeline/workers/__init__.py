"""The worker pool, and what runs in it: real games, and dreams in which candidates are judged."""
