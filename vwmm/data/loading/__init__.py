"""From cached images to batches."""
