"""The user's configuration and the run folder."""
