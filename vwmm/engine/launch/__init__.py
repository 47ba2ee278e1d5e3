"""Starting processes, on a machine or through Slurm."""
