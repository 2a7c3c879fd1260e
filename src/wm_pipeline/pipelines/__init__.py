"""The stages: pure node functions and their wiring, one folder each."""
