"""The hot loop: a whole population in the dream."""
