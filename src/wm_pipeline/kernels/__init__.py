"""C where torch is too slow, compiled by the machine's own compiler."""
