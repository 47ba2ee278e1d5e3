"""DICOM files as voxels and an affine."""
