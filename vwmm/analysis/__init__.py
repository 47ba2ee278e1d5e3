"""Metrics, confidence intervals, figures and HTML pages."""
