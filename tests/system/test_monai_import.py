"""MONAI without what nobody here uses."""

import subprocess
import sys

import pytest


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


def test_a_network_loads_neither_the_rest_of_monai_nor_pandas() -> None:
    script = (
        "import sys; from vwmm.system.monai_import import import_network\n"
        "import_network('nets.resnet').ResNet, import_network('nets.densenet').DenseNet\n"
        "spared = {'monai.data', 'monai.transforms', 'monai.networks.nets.unet', 'pandas', 'nibabel'}\n"
        "assert not spared & set(sys.modules)\n"
        "import pandas"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    "use",
    [
        "from monai.transforms import Spacing",
        "from monai.data.meta_tensor import MetaTensor",
        "from monai.networks.nets import UNet",
        "import monai.networks.nets.unet",
        "from monai.apps import CrossValidation",
        "import_monai(); import monai; assert monai.networks.blocks.MLPBlock",
        "import monai; assert monai.losses.DiceLoss and monai.utils.misc",
        "import monai; assert monai.__version__",
        "import monai; assert not hasattr(monai, 'nothing')",
    ],
)
def test_all_of_monai_is_there_after_a_network(use: str) -> None:
    script = (
        "import sys; from vwmm.system.monai_import import import_monai, import_network\n"
        "first = import_network('nets.densenet').DenseNet\n"
        f"{use}\n"
        "import monai, monai.transforms\n"
        "assert monai.networks.nets.DenseNet is monai.networks.nets.densenet.DenseNet is first\n"
        "assert monai.transforms.Spacing.__module__ == 'monai.transforms.spatial.array'\n"
        "import monai.networks.nets.unet as unet; assert monai.networks.nets.UNet is unet.UNet\n"
        "assert sys.modules['monai.transforms'].__spec__.origin.endswith('transforms/__init__.py')\n"
        "assert monai.apps.utils is sys.modules['monai.apps.utils'] and monai.apps.CrossValidation\n"
        "import pickle; pickle.loads(pickle.dumps(first(2, 1, 1, init_features=4, growth_rate=2, block_config=(1,))))\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
