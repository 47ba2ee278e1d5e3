"""Checkpoints, and the run folder while it is written."""
