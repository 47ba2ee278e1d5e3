"""Fills, prunes and shows the cache."""
