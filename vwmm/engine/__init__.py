"""The trainer: processes, loops, optimizer, checkpoints and trackers. The only floor that knows Accelerate."""
