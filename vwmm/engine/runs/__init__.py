"""Opens, reports and verifies a run."""
