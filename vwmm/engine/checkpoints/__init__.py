"""Checkpoints, and the run folder during training."""
