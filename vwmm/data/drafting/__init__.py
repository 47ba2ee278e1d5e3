"""A cohort table from folders and DICOM headers."""
