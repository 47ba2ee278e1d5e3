"""Associations of acquisition and label, which a model could learn instead of disease."""
