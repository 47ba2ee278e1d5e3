"""Transformed images on disk, one copy per machine."""
