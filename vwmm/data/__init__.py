"""From the cohort's CSV to batches: cases, splits, readers, fixed transforms, the store and the loaders."""
