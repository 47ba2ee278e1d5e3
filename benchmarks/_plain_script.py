"""What a user of MONAI and Accelerate would write for the demonstration: the other side of benchmarks/end_to_end.py.

    accelerate launch benchmarks/_plain_script.py COHORT.csv EPOCHS [--augment] [--no-metadata]

As in MONAI's tutorials the network computes with tensors that carry metadata; --no-metadata drops it after loading.
"""

import sys
from pathlib import Path

import pandas as pd
import torch
from accelerate import Accelerator
from accelerate.utils import set_seed
from monai.data import CacheDataset, DataLoader
from monai.networks.nets import DenseNet
from monai.transforms import (
    Compose,
    EnsureChannelFirstd,
    EnsureTyped,
    LoadImaged,
    RandAdjustContrastd,
    RandAffined,
    RandBiasFieldd,
    RandFlipd,
    RandGaussianNoised,
    RandScaleIntensityd,
    RandShiftIntensityd,
    RandSimulateLowResolutiond,
    Resized,
    ScaleIntensityd,
    ScaleIntensityRanged,
    SqueezeDimd,
)  # fmt: skip
from sklearn.model_selection import train_test_split
from torch import nn

SIZES = {"vw_mri": (32, 32, 32), "mri": (32, 32), "ct": (32, 32)}
BATCH, RATE = 8, 2e-3


class Fusion(nn.Module):
    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.branches = nn.ModuleDict()
        for name, size in SIZES.items():
            branch = DenseNet(len(size), 1, 1, init_features=16, growth_rate=8, block_config=(2, 2, 2, 2))
            width = branch.class_layers.out.in_features
            branch.class_layers.out = nn.Identity()
            self.branches[name] = branch
        self.head = nn.Sequential(nn.Linear(3 * width, 64), nn.ReLU(), nn.Dropout(0.2), nn.Linear(64, num_classes))

    def forward(self, batch: dict[str, torch.Tensor]) -> torch.Tensor:
        features = [branch(batch[name]) for name, branch in self.branches.items()]
        logits: torch.Tensor = self.head(torch.cat(features, dim=1))
        return logits


def transforms(augment: bool, drops_metadata: bool) -> Compose:
    steps = [
        LoadImaged(list(SIZES), image_only=True), EnsureChannelFirstd(list(SIZES)), SqueezeDimd("mri", dim=-1),
        ScaleIntensityd(["vw_mri", "mri"]), ScaleIntensityRanged("ct", -150, 550, 0, 1, clip=True),
        *(Resized(name, spatial_size=size, mode="area") for name, size in SIZES.items()),
        *[EnsureTyped(list(SIZES), track_meta=False)] * drops_metadata,
    ]  # fmt: skip
    for name, size in SIZES.items() if augment else ():
        steps += [
            RandFlipd(name, prob=0.5, spatial_axis=0),
            RandAffined(
                name, prob=0.5, rotate_range=[0.1745] * (1 if len(size) == 2 else 3), scale_range=[0.1] * len(size),
                translate_range=[0.05 * length for length in size], padding_mode="border",
            ),
            RandSimulateLowResolutiond(
                name, prob=0.1, zoom_range=(0.5, 1.0), upsample_mode="trilinear" if len(size) == 3 else "bilinear"
            ),
            RandBiasFieldd(name, prob=0.2, degree=2, coeff_range=(0.0, 0.2)),
            RandAdjustContrastd(name, prob=0.2, gamma=(0.74, 1.35)),
            RandScaleIntensityd(name, prob=0.3, factors=0.1),
            RandShiftIntensityd(name, prob=0.3, offsets=0.05),
            RandGaussianNoised(name, prob=0.2, std=0.05),
        ]  # fmt: skip
    return Compose(steps)


def main() -> None:
    table, epochs = Path(sys.argv[1]), int(sys.argv[2])
    augment, drops_metadata = "--augment" in sys.argv, "--no-metadata" in sys.argv
    accelerator = Accelerator()
    set_seed(0)
    frame = pd.read_csv(table)
    classes = sorted(frame.label.unique())
    items = [
        {name: table.parent / row[name] for name in SIZES} | {"label": classes.index(row["label"])}
        for _, row in frame.iterrows()
    ]
    train, val = train_test_split(items, test_size=0.2, stratify=frame.label, random_state=0)
    loaders = [
        DataLoader(
            CacheDataset(part, transforms(augment and is_train, drops_metadata), progress=False),
            batch_size=BATCH,
            shuffle=is_train,
        )
        for part, is_train in ((train, True), (val, False))
    ]
    model = Fusion(len(classes))
    optimizer = torch.optim.Adam(model.parameters(), lr=RATE)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, epochs * len(loaders[0]))
    model, optimizer, train_loader, val_loader, schedule = accelerator.prepare(model, optimizer, *loaders, schedule)
    loss_of = nn.CrossEntropyLoss()
    best = float("inf")
    for epoch in range(1, epochs + 1):
        model.train()
        for batch in train_loader:
            loss = loss_of(model(batch), batch["label"])
            accelerator.backward(loss)
            optimizer.step()
            schedule.step()
            optimizer.zero_grad()
        model.eval()
        losses, correct = [], []
        with torch.no_grad():
            for batch in val_loader:
                logits, labels = accelerator.gather_for_metrics((model(batch), batch["label"]))
                losses.append(nn.functional.cross_entropy(logits, labels, reduction="none"))
                correct.append(logits.argmax(dim=1) == labels)
        val_loss, accuracy = torch.cat(losses).mean().item(), torch.cat(correct).float().mean().item()
        accelerator.print(f"epoch {epoch} loss {val_loss:.4f} accuracy {accuracy:.3f}")
        if val_loss < best:
            best = val_loss
            accelerator.save_state("best")


if __name__ == "__main__":
    main()
