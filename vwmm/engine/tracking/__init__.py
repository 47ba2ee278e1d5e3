"""metrics.jsonl and experiment trackers."""
