#!/usr/bin/env bash
# Accelerate 1.15.0: the last gradient accumulation of an epoch is too small where the batches do not fill it.
#
# Expected: three batches with gradient_accumulation_steps=2 give two updates, each with the mean gradient of its batches.
# Found: the window of two has the mean; the last window, of one batch, has half of it. `accumulate` steps at the end of
# the data, but `backward` has divided each loss by the full number of accumulation steps. A small cohort with a large
# accumulation (5 batches, accumulation 4) takes every fifth batch with a quarter of its weight, in each epoch again.
# Source: accelerate.Accelerator.backward (loss / self.gradient_accumulation_steps), GradientState.sync_with_dataloader.
set -euo pipefail
folder=$(mktemp -d); trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q torch==2.13.0
"$folder/venv/bin/pip" install -q numpy==2.4.6 accelerate==1.15.0
"$folder/venv/bin/pip" freeze | grep -E "^(accelerate|torch)="
"$folder/venv/bin/python" - <<'END'
import sys
import torch
from accelerate import Accelerator
from torch.utils.data import DataLoader, TensorDataset

accelerator = Accelerator(cpu=True, gradient_accumulation_steps=2)
model = torch.nn.Linear(1, 1, bias=False)
optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
loader = DataLoader(TensorDataset(torch.ones(3, 1)), batch_size=1)
model, optimizer, loader = accelerator.prepare(model, optimizer, loader)
gradients = []
for (x,) in loader:
    with accelerator.accumulate(model):
        accelerator.backward(model(x).mean())  # the gradient of each batch is 1
        if accelerator.sync_gradients:
            gradients.append(model.weight.grad.item())
        optimizer.step()
        optimizer.zero_grad()
print("expected: [1.0, 1.0]")
print("found:   ", gradients)
sys.exit(0 if gradients == [1.0, 0.5] else "the finding has changed")
END
