"""What is wrong with a cohort, found before training."""
