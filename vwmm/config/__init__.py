"""The ground floor: what a user may configure, how it is read, and where a run is written."""
