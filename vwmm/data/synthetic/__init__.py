"""The synthetic demonstration cohort."""
