#!/usr/bin/env bash
# bids-validator 1.14.7 (Python): a valid BIDS path is invalid without a slash before it.
#
# Expected: a path relative to the data set's root, as Path.relative_to gives it and as BIDS writes it in scans.tsv, is judged.
# Found: is_bids answers False for every path that does not begin with "/", with no error and no warning: whoever filters
# files with it gets an empty list. BIDS's own tables (scans.tsv) have no such slash.
# Source: bids_validator.BIDSValidator.is_bids, whose patterns begin with "^\/".
set -euo pipefail
folder=$(mktemp -d); trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q bids-validator==1.14.7.post0
"$folder/venv/bin/pip" freeze | grep -i bids
"$folder/venv/bin/python" - <<'END'
import sys
from bids_validator import BIDSValidator

path = "sub-01/anat/sub-01_T1w.nii.gz"
found = {text: BIDSValidator().is_bids(text) for text in (path, f"/{path}")}
print("expected: True for both, or an error")
print("found:   ", found)
sys.exit(0 if list(found.values()) == [False, True] else "the finding has changed")
END
