"""Trains and compares models: all modalities, each alone, each left out; or any finished runs."""
