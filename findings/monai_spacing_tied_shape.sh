#!/usr/bin/env bash
# MONAI 1.6.1: Spacing gives an oblique volume another number of voxels once its affine has been through float32 (NIfTI).
#
# Expected: an affine in float32, as every NIfTI has it, differs from the DICOM series' own by 1e-7, and so do the samples.
# Found: 40 voxels of 0.5 mm are 19.5 mm between the outer centres, so at 1 mm half of a voxel is left over, as it is for any
# even number of them. np.round decides by the last digit of the affine: 20 voxels from DICOM, 21 from the NIfTI of the same
# scan, on grids of their own. Straight volumes keep 0.5 exactly and agree; oblique ones do not.
# Source: monai.data.utils.compute_shape_offset, np.round(np.ptp(...) + 1.0).
set -euo pipefail
folder=$(mktemp -d); trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q torch==2.13.0
"$folder/venv/bin/pip" install -q numpy==2.4.6 monai==1.6.1
"$folder/venv/bin/pip" freeze | grep -E "^(monai|torch|numpy)="
"$folder/venv/bin/python" - <<'EOF'
import sys
import numpy as np, torch
from monai.data.meta_tensor import MetaTensor
from monai.transforms import Spacing

x, y, z = np.mgrid[:40, :34, :20]
volume = torch.from_numpy((x + y + 2 * z).astype(np.float32))[None]
shapes = {}
for name, axes in (("straight", np.eye(3)), ("oblique", np.array([[0.8, 0.6, 0], [-0.6, 0.8, 0], [0, 0, 1]]))):
    exact = np.eye(4)
    exact[:3, :3] = axes * [0.5, 0.5, 2.0]
    for kind, affine in (("DICOM", exact), ("NIfTI", exact.astype(np.float32).astype(np.float64))):
        image = MetaTensor(volume, affine=torch.from_numpy(affine))
        shapes[name, kind] = tuple(Spacing(pixdim=(1.0, 1.0, 1.0), mode="bilinear", padding_mode="border")(image).shape[1:])
print("expected: one shape for DICOM and NIfTI")
print("found:", shapes)
same = [shapes[name, "DICOM"] == shapes[name, "NIfTI"] for name in ("straight", "oblique")]
sys.exit(0 if same == [True, False] else "the finding has changed")
EOF
