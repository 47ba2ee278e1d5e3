"""Claim: on a GPU, with the full recipe's images and DenseNet121, vwmm's loop costs no more than a bare loop of torch.

Run by `make gpu`, in float32 and in the precision that `train.mixed_precision=auto` chooses.
"""

import torch

from benchmarks.training_loop import measure

if __name__ == "__main__":
    if not torch.cuda.is_available():
        print("skipped: no CUDA GPU")
    for precision in ("no", "auto") if torch.cuda.is_available() else ():
        measure([f"train.mixed_precision={precision}", "train.micro_batch_size=4"], num_cases=64, rounds=5)
