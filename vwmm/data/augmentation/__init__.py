"""Random changes of images during training."""
