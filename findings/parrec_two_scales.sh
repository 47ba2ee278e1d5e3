#!/usr/bin/env bash
# Philips PAR/REC: nibabel 5.4.2 and dcm2niix 1.0.20260724 read one file in units that differ by a factor of about 181.
#
# Expected: two readers of one vendor's format give the same values, as both apply the scaling that the PAR file has.
# Found: the PAR file has two. nibabel's default is "dv", the values that the console displays (pixel * slope + intercept);
# dcm2niix writes "fp", the precise values (dv / (rescale slope * scale slope)). With scaling="fp" nibabel gives dcm2niix's.
# The factor is a constant of each series, so that scans differ from each other by another factor in one unit than in the
# other: intensities of different patients cannot be compared across the two. The axes differ as well: LPS and LAS.
# The file is one of nibabel's own test files, which its wheel has.
# Source: nibabel.parrec (scaling), dcm2niix (Philips Scaling Values), Chenevert et al. 2014, PMC3998685.
set -euo pipefail
folder=$(mktemp -d); trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q numpy==2.4.6 nibabel==5.4.2 dcm2niix==1.0.20260724
"$folder/venv/bin/pip" freeze | grep -E "^(nibabel|dcm2niix|numpy)="
cd "$folder"
cp "$folder"/venv/lib/python3*/site-packages/nibabel/tests/data/phantom_EPI_asc_CLEAR_2_1.* .
"$folder/venv/bin/dcm2niix" -b n -z n -f converted -o . phantom_EPI_asc_CLEAR_2_1.PAR >/dev/null
"$folder/venv/bin/python" - <<'END'
import sys
import nibabel

by_default = nibabel.load("phantom_EPI_asc_CLEAR_2_1.PAR").get_fdata()
precise = nibabel.load("phantom_EPI_asc_CLEAR_2_1.PAR", scaling="fp").get_fdata()
converted = nibabel.load("converted.nii").get_fdata()
print("expected: one mean")
print(f"found:    nibabel {by_default.mean():.1f}, nibabel with fp {precise.mean():.1f}, dcm2niix {converted.mean():.1f}")
ratio = converted.mean() / by_default.mean()
is_as_found = abs(ratio - 180.9) < 0.1 and abs(converted.mean() / precise.mean() - 1) < 1e-6
sys.exit(0 if is_as_found else "the finding has changed")
END
