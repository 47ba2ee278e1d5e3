"""Epochs, the training step and validation."""
