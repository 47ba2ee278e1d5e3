"""MONAI without what nobody here uses."""

import subprocess
import sys


def test_monai_loads_neither_mlflow_nor_pyplot_and_both_can_be_imported_afterwards() -> None:
    script = (
        "import sys; from vwmm.config.lean_import import import_monai; import_monai(); import_monai(); "
        "assert 'monai' in sys.modules; "
        "assert not {'mlflow', 'matplotlib.pyplot'} & set(sys.modules); "
        "import mlflow, matplotlib.pyplot; from monai.networks.nets import DenseNet121"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
