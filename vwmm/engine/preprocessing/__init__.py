"""Filling, pruning and showing the cache."""
