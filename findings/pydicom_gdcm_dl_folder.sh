#!/usr/bin/env bash
# pydicom 3.0.2 with python-gdcm 3.2.6: a folder called `dl` beside a script keeps `import pydicom` from working.
#
# Expected: what lies beside a script matters to the modules that the script imports, and pydicom has none called `dl`.
# Found: pydicom imports gdcm where it is installed, as an optional decoder; gdcm's wrapper imports `dl`, a module that
# Python 2 had, takes the folder for it, and asks it for RTLD_NOW. pydicom catches ImportError only, so the AttributeError
# ends its import. Whoever downloads wheels or scans into `dl/` can read no DICOM there, and the message names neither.
# Source: gdcm.py of python-gdcm, pydicom/pixels/decoders/gdcm.py.
set -euo pipefail
folder=$(mktemp -d); trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q numpy==2.4.6 pydicom==3.0.2 python-gdcm==3.2.6
"$folder/venv/bin/pip" freeze
mkdir "$folder/plain" "$folder/beside" "$folder/beside/dl"
echo 'import pydicom; print("pydicom", pydicom.__version__)' | tee "$folder/plain/read.py" > "$folder/beside/read.py"
echo "expected: pydicom is imported in both folders"
echo -n "without a folder dl: "; "$folder/venv/bin/python" "$folder/plain/read.py"
echo -n "with a folder dl:    "
if "$folder/venv/bin/python" "$folder/beside/read.py" 2> "$folder/error"; then
  echo "the finding is gone"; exit 1
fi
tail -n 1 "$folder/error"
grep -q "AttributeError" "$folder/error"
