"""The check of a whole cohort."""
