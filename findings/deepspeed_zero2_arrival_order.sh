#!/usr/bin/env bash
# DeepSpeed 0.19.8: ZeRO-2 adds gradients of different parameters where the ranks' backward passes differ in order.
#
# Expected: ZeRO-2 updates the weights as ZeRO-1 does, by the mean over the ranks of each parameter's gradient, in
# whatever order a rank's backward pass reaches the parameters.
# Found: with ZeRO-2 a gradient is copied to the next free place of its bucket when it arrives, and the ranks' buckets
# are added as they are. Where two ranks reach two parameters of one shape in different orders - a model with a branch
# for each modality, and a rank whose cases lack one - the sum of the one is a mixture of both, and nothing is said:
# sizes, dtypes and the norm of the gradient fit. ZeRO-1 reduces in the order of the parameters, ZeRO-3 sorts first.
# `engine.coalesce_grad_reduction()` around the backward passes of a step reduces in the parameters' order and is right.
# Source: reduce_independent_p_g_buckets_and_remove_grads in deepspeed/runtime/zero/stage_1_and_2.py (no sort by
# parameter), against the sort by ds_id in deepspeed/runtime/zero/stage3.py.
set -euo pipefail
folder=$(mktemp -d); trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q torch==2.13.0 setuptools
DS_BUILD_OPS=0 "$folder/venv/bin/pip" install -q numpy==2.4.6 deepspeed==0.19.8
"$folder/venv/bin/pip" freeze | grep -E "^(deepspeed|torch)="
cat > "$folder/two_ranks.py" <<'END'
import contextlib, logging, sys
logging.disable(logging.WARNING)
import deepspeed
import torch

deepspeed.init_distributed("gloo")
rank = torch.distributed.get_rank()


class TwoBranches(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.second = (torch.nn.Parameter(torch.zeros(4)) for _ in range(2))

    def forward(self, x):
        # The same sum on both ranks, begun with the one branch or with the other.
        terms = [self.first * x, self.second * 10 * x]
        if rank == 1:
            terms = [self.second * 10 * x, self.first * x]
        return sum(term.sum() for term in terms)


def updated(stage, *, together=False):
    zero = {"stage": stage, "overlap_comm": False}
    config = {"train_micro_batch_size_per_gpu": 1, "gradient_clipping": 0.0, "zero_optimization": zero}
    config["zero_allow_untested_optimizer"] = True
    model = TwoBranches()
    engine, *_ = deepspeed.initialize(
        model=model, optimizer=torch.optim.SGD(model.parameters(), lr=1.0), config=config, dist_init_required=False
    )
    with engine.coalesce_grad_reduction() if together else contextlib.nullcontext():
        engine.backward(engine(torch.ones(4)))
    engine.step()
    return [model.first.tolist()[0], model.second.tolist()[0]]


found = {"ZeRO-1": updated(1), "ZeRO-2": updated(2), "ZeRO-2, coalesced": updated(2, together=True)}
if rank == 0:
    print("expected: first -1, second -10 with each")
    print("found:   ", found)
right = [-1.0, -10.0]
as_found = found["ZeRO-1"] == found["ZeRO-2, coalesced"] == right and found["ZeRO-2"] == [-5.5, -5.5]
sys.exit(0 if as_found else "the finding has changed")
END
DS_ACCELERATOR=cpu OMP_NUM_THREADS=1 "$folder/venv/bin/torchrun" --standalone --nproc-per-node 2 "$folder/two_ranks.py"
