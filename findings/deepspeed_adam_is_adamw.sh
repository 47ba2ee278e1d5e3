#!/usr/bin/env bash
# DeepSpeed 0.19.8: an optimizer of type "Adam" decays weights as AdamW does.
#
# Expected: {"type": "Adam", "params": {"weight_decay": ...}} is Adam with L2 regularisation, as torch.optim.Adam is, and
# {"type": "AdamW"} is AdamW: DeepSpeed's configuration has a type for each.
# Found: both are AdamW. `adam_w_mode` is true unless the parameters say otherwise, also with torch's own implementation
# (torch_adam) and for the fused one on GPUs. A recipe with Adam and a weight decay trains another model once it is
# launched through DeepSpeed, without a word; without a weight decay the two are the same.
# Source: deepspeed.runtime.engine._configure_basic_optimizer, ADAM_W_MODE_DEFAULT in deepspeed.runtime.config.
set -euo pipefail
folder=$(mktemp -d); trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q torch==2.13.0 setuptools
DS_BUILD_OPS=0 "$folder/venv/bin/pip" install -q numpy==2.4.6 deepspeed==0.19.8
"$folder/venv/bin/pip" freeze | grep -E "^(deepspeed|torch)="
DS_ACCELERATOR=cpu RANK=0 LOCAL_RANK=0 WORLD_SIZE=1 MASTER_ADDR=127.0.0.1 MASTER_PORT=0 "$folder/venv/bin/python" - <<'END'
import logging, sys
logging.disable(logging.WARNING)
import deepspeed
import torch

deepspeed.init_distributed("gloo")
kinds = {}
for name, more in (("Adam", {}), ("AdamW", {}), ("Adam", {"adam_w_mode": False})):
    model = torch.nn.Linear(2, 2)
    params = {"lr": 0.1, "weight_decay": 0.5, "torch_adam": True, **more}
    config = {"train_batch_size": 1, "optimizer": {"type": name, "params": params}}
    engine, *_ = deepspeed.initialize(model=model, model_parameters=model.parameters(), config=config)
    kinds[name, *more] = type(engine.optimizer).__name__
print("expected: Adam for Adam, AdamW for AdamW")
print("found:   ", kinds)
expected = {("Adam",): "AdamW", ("AdamW",): "AdamW", ("Adam", "adam_w_mode"): "Adam"}
sys.exit(0 if kinds == expected else "the finding has changed")
END
