"""From the cohort's CSV to batches."""
