"""The check of a cohort, as a whole."""
