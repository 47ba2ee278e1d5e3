"""Test sets and cross-validation."""
