"""Opening, reporting and verifying a run."""
