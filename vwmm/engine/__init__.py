"""Training. The only floor that imports Accelerate and trackers."""
