"""Image files of every format as voxels and an affine."""
