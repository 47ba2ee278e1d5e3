"""Starts processes, on one machine or through Slurm."""
