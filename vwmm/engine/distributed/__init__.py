"""The processes of a run, and the watchdog."""
