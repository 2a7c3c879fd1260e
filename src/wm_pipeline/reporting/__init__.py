"""Figures, pictures and the summary, made from data frames and arrays."""
