"""The model: branches, concatenated features, fully connected head.

The features of a missing image are a vector that is learned for its modality. In training it never enters its branch,
so that batch norm sees images only; in evaluation zeros stand in for it and what comes of them is thrown away.
"""

from collections.abc import Mapping, Sequence
from itertools import pairwise

import torch
from torch import nn

from vwmm.config.schema import Modality, Model
from vwmm.models.branch import build_branch
from vwmm.models.micro_batches import MicroBatches, one_micro_batch
from vwmm.models.norm import groups_of
from vwmm.models.row_linear import RowLinear
from vwmm.models.shapes import ShapesOnly


class KeyedDropout(nn.Module):
    """Dropout with a mask from given generators, so that no global state affects it."""

    def __init__(self, p: float) -> None:
        super().__init__()
        self.p = p

    def forward(self, x: torch.Tensor, draws: Sequence[tuple[int, torch.Generator]]) -> torch.Tensor:
        """x: (B, F); draws: so many rows with that generator, and so on; none: nothing is dropped.

        The generators are on the CPU, so that the mask is the same on every device.
        """
        if not self.training or self.p == 0 or not draws:
            return x
        keep = torch.cat([torch.rand(rows, x.shape[1], generator=generator) for rows, generator in draws]) >= self.p
        return x * keep.to(x.device, non_blocking=True) / (1 - self.p)


class Head(nn.Module):
    """Linear, ReLU and dropout for each hidden layer, then the logits: (B, M * F) -> (B, K)."""

    def __init__(self, num_inputs: int, hidden: Sequence[int], num_classes: int, *, dropout: float) -> None:
        super().__init__()
        widths = [num_inputs, *hidden]
        self.layers = nn.ModuleList(RowLinear(a, b) for a, b in pairwise(widths))
        self.dropout = KeyedDropout(dropout)
        self.out = RowLinear(widths[-1], num_classes)

    def forward(self, x: torch.Tensor, draws: Sequence[tuple[int, torch.Generator]] = ()) -> torch.Tensor:
        for layer in self.layers:
            x = self.dropout(torch.relu(layer(x)), draws)
        logits: torch.Tensor = self.out(x)
        return logits


class FusionModel(nn.Module):
    """Any number of branches and a head."""

    def __init__(self, branches: Mapping[str, tuple[nn.Module, int]], head: Head) -> None:
        """`branches`: network and number of features by modality, in the order of `present`'s columns."""
        super().__init__()
        self.names = list(branches)
        self.branches = nn.ModuleDict({_key(name): branch for name, (branch, _) in branches.items()})
        self.missing = nn.ParameterDict(
            {_key(name): nn.Parameter(torch.randn(width) * 0.02) for name, (_, width) in branches.items()}
        )
        self.head = head
        self._groups = {name: groups_of(branch) for name, (branch, _) in branches.items()}
        self.run_empty_branches = False
        """Whether a branch without images still runs, on an empty batch: needed if processes share its weights."""

    def forward(
        self,
        images: Mapping[str, torch.Tensor],
        present: torch.Tensor | MicroBatches,
        dropout_seed: int | None = None,
        *,
        visible: Sequence[Sequence[bool]] = (),
    ) -> torch.Tensor:
        """images: per modality (B, 1, *size); present: (B, M) bool -> logits (B, K).

        In training `present` is the micro-batches of this pass, or one of them as a tensor, with `dropout_seed` as the
        key of its dropout; without a key nothing is dropped. Every parameter takes part in the result, so data-parallel
        training need not look for unused ones; B may be 0. visible, in evaluation: V choices of the M modalities; the
        result is (B, V, K), for each as if the other images were missing. Each branch runs once, the head V times.
        """
        if self.training:
            several = one_micro_batch(present, dropout_seed) if isinstance(present, torch.Tensor) else present
            features = [self._trained_features(name, images[name], several, m) for m, name in enumerate(self.names)]
            generators = [torch.Generator().manual_seed(seed) for seed in several.dropout_seeds]
            draws = list(zip(several.sizes, generators, strict=True)) if generators else []
            logits: torch.Tensor = self.head(torch.cat(features, dim=1), draws)  # (B, M * F)
            return logits
        assert isinstance(present, torch.Tensor)
        features = [self._features(name, images[name], present[:, m]) for m, name in enumerate(self.names)]
        if not visible:
            whole: torch.Tensor = self.head(torch.cat(features, dim=1))
            return whole
        missing = [self.missing[_key(name)].expand(len(present), -1).to(features[0].dtype) for name in self.names]
        shown = [[(missing[m], features[m])[is_seen] for m, is_seen in enumerate(one)] for one in visible]
        return torch.stack([self.head(torch.cat(parts, dim=1)) for parts in shown], dim=1)

    def _features(self, name: str, images: torch.Tensor, present: torch.Tensor) -> torch.Tensor:
        """(B, F) in evaluation: the branch's features of the images that are there, the learned vector for the others.

        Batch norm mixes nothing now, and the rounding of a convolution depends on the size of its batch: a case's
        features must not depend on what is missing in the others.
        """
        missing = self.missing[_key(name)].expand(len(present), -1)
        whole = torch.where(present.view(-1, *[1] * (images.ndim - 1)), images, 0.0)
        return torch.where(present[:, None], self.branches[_key(name)](whole), missing)

    def _trained_features(
        self, name: str, images: torch.Tensor, micro_batches: MicroBatches, modality: int
    ) -> torch.Tensor:
        """(B, F) in training: only images that are there enter the branch, in the order of `MicroBatches.order`."""
        branch, num_cases = self.branches[_key(name)], len(images)
        rows, self._groups[name].shapes = micro_batches.order(modality)
        missing = self.missing[_key(name)].expand(num_cases, -1)
        if not rows and self.run_empty_branches:
            branch.eval()  # batch statistics of an empty batch are NaN
            nothing = branch(images[:0]).sum()
            branch.train()
            return missing + nothing
        if not rows:
            # Zero times its parameters: the branch stays in the graph, its normalisation sees nothing.
            return missing + 0 * sum(parameter.sum() for parameter in branch.parameters())
        if rows == list(range(num_cases)):
            features: torch.Tensor = branch(images)
            return features + 0 * missing
        where = torch.tensor(rows).to(images.device, non_blocking=True)
        found = branch(images[where])
        return missing.to(found.dtype).index_put((where,), found)


def _key(name: str) -> str:
    """A modality's name in the containers, which cannot hold what is a method of theirs, such as `type`."""
    is_taken = hasattr(nn.ModuleDict(), name) or hasattr(nn.ParameterDict(), name)
    return f"{name}-" if is_taken else name


def count_parameters(model: Model, modalities: Mapping[str, Modality], num_classes: int) -> int:
    """Parameters of the model of a configuration, without the memory for them."""
    with torch.device("meta"), ShapesOnly():
        network = build_model(model, modalities, num_classes, seed=0)
    return sum(parameter.numel() for parameter in network.parameters())


def build_model(model: Model, modalities: Mapping[str, Modality], num_classes: int, *, seed: int) -> FusionModel:
    """The model of a configuration, its first weights from the seed alone."""
    width = {"backbone": None, "classes": num_classes}.get(str(model.features), model.features)
    assert not isinstance(width, str)
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)  # torch.manual_seed would reach the GPUs' generators, too
        branches = {
            name: build_branch(
                model.backbone,
                dims=modality.dims,
                num_features=width,
                norm=model.norm,
                checkpointing=model.checkpointing,
            )
            for name, modality in modalities.items()
        }
        num_inputs = sum(features for _, features in branches.values())
        return FusionModel(branches, Head(num_inputs, model.hidden, num_classes, dropout=model.dropout))
