"""Drafts a cohort table from folders and DICOM headers."""
