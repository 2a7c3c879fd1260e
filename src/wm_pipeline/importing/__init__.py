"""V, M and C that were trained elsewhere, as ours."""
