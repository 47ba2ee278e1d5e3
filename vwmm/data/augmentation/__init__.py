"""Changes of images from epoch to epoch."""
