"""Policies that play the game: random, scripted, and the controller behind V and M."""
