"""A program that compiles nothing does without torch's compiler, and one that compiles has it."""

import subprocess
import sys

import pytest

TRAIN = """
import hashlib, sys, torch
if {postpones}:
    from vwmm.system.torch_import import postpone_compiler
    postpone_compiler()
torch.manual_seed(0)
found = hashlib.sha256()
for kind in (torch.optim.Adam, torch.optim.AdamW, torch.optim.SGD):
    layer = torch.nn.Linear(7, 3)
    optimizer = kind(layer.parameters(), lr=0.1, weight_decay=0.01, fused=True)
    for _ in range(3):
        layer(torch.rand(5, 7)).square().sum().backward()
        optimizer.step()
        optimizer.zero_grad()
    state = optimizer.state_dict()
    optimizer.load_state_dict(state)
    for parameter in layer.parameters():
        found.update(parameter.detach().numpy().tobytes())
assert ("sympy" in sys.modules) is not {postpones}
print(found.hexdigest())
"""


def output_of(script: str) -> str:
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_optimizers_compute_the_same_without_the_compiler() -> None:
    assert output_of(TRAIN.format(postpones=True)) == output_of(TRAIN.format(postpones=False))


@pytest.mark.parametrize(
    "use",
    [
        "assert torch.compile(layer, backend='eager')(torch.ones(1, 7)).shape == (1, 3)",
        "import torch._dynamo.config as config; assert config.cache_size_limit",
        "from torch._dynamo import config; assert config.cache_size_limit",
        "from torch._dynamo.eval_frame import OptimizedModule; assert not isinstance(layer, OptimizedModule)",
        "import torch.distributed.fsdp; assert torch._dynamo.utils",
    ],
)
def test_the_compiler_is_there_when_it_is_wanted(use: str) -> None:
    script = TRAIN.format(postpones=True) + (
        f"{use}\n"
        "import torch._dynamo.utils, torch._dynamo.decorators as decorators\n"
        "assert torch._dynamo.disable is decorators.disable and torch._dynamo.graph_break is decorators.graph_break\n"
        "assert torch._dynamo.eval_frame is sys.modules['torch._dynamo.eval_frame']\n"
        "optimizer.zero_grad()\n"
        "function = torch.optim.Optimizer.zero_grad.__wrapped__\n"
        "assert vars(function)['__dynamo_disable'] is not function\n"
    )
    output_of(script)


def test_a_compiler_that_is_there_stays() -> None:
    output_of(
        "import torch._dynamo\nbefore = torch._dynamo.disable\n"
        "from vwmm.system.torch_import import postpone_compiler\npostpone_compiler()\n"
        "assert torch._dynamo.disable is before"
    )


@pytest.mark.parametrize(
    "decorated", ["torch.compiler.disable", "torch.compiler.disable(reason='x')", "torch._dynamo.disable"]
)
def test_users_function_is_kept_from_the_compiler(decorated: str) -> None:
    script = f"""
import torch
from vwmm.system.torch_import import postpone_compiler
postpone_compiler()
@{decorated}
def inner(x):
    assert not torch.compiler.is_compiling()
    return x + 1
print(torch.compile(lambda x: inner(x) * 2, backend="eager")(torch.ones(1)).item())
"""
    assert output_of(script).strip() == "4.0"
