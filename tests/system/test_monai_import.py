"""MONAI without what nobody here uses."""

import subprocess
import sys


def test_monai_loads_neither_mlflow_nor_pyplot_and_both_can_be_imported_afterwards() -> None:
    script = (
        "import sys; from vwmm.system.monai_import import import_monai; import_monai(); import_monai(); "
        "assert 'monai' in sys.modules; "
        "assert not {'mlflow', 'matplotlib.pyplot'} & set(sys.modules); "
        "import mlflow, matplotlib.pyplot; from monai.networks.nets import DenseNet121"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_a_second_thread_finds_monai_whole_while_the_first_imports_it() -> None:
    script = (
        "import sys, threading, time\n"
        "found = []\n"
        "from vwmm.system.monai_import import import_monai\n"
        "def second():\n"
        "    while 'monai' not in sys.modules:\n"
        "        time.sleep(0.001)\n"
        "    import_monai()\n"
        "    from monai.data.meta_tensor import MetaTensor\n"
        "    from monai.transforms import Spacing\n"
        "    found.append('whole')\n"
        "threads = [threading.Thread(target=target) for target in (import_monai, second, second)]\n"
        "for thread in threads: thread.start()\n"
        "for thread in threads: thread.join()\n"
        "print(*found)\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert (done.stdout.split(), done.returncode) == (["whole", "whole"], 0), done.stderr
