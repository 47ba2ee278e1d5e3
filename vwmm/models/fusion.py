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
from vwmm.models.row_linear import RowLinear


class KeyedDropout(nn.Module):
    """Dropout with a mask from a given generator, so that no global state affects it."""

    def __init__(self, p: float) -> None:
        super().__init__()
        self.p = p

    def forward(self, x: torch.Tensor, generator: torch.Generator | None) -> torch.Tensor:
        """x: any shape; generator: on the CPU, so that the mask is the same on every device."""
        if not self.training or self.p == 0 or generator is None:
            return x
        keep = torch.rand(x.shape, generator=generator) >= self.p
        return x * keep.to(x.device, non_blocking=True) / (1 - self.p)


class Head(nn.Module):
    """Linear, ReLU and dropout for each hidden layer, then the logits: (B, M * F) -> (B, K)."""

    def __init__(self, num_inputs: int, hidden: Sequence[int], num_classes: int, *, dropout: float) -> None:
        super().__init__()
        widths = [num_inputs, *hidden]
        self.layers = nn.ModuleList(RowLinear(a, b) for a, b in pairwise(widths))
        self.dropout = KeyedDropout(dropout)
        self.out = RowLinear(widths[-1], num_classes)

    def forward(self, x: torch.Tensor, generator: torch.Generator | None = None) -> torch.Tensor:
        for layer in self.layers:
            x = self.dropout(torch.relu(layer(x)), generator)
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
        self.run_empty_branches = False
        """Whether a branch without images still runs, on an empty batch: needed if processes share its weights."""

    def forward(
        self,
        images: Mapping[str, torch.Tensor],
        present: torch.Tensor,
        dropout_seed: int | None = None,
        *,
        with_unimodal: bool = False,
    ) -> torch.Tensor:
        """images: per modality (B, 1, *size); present: (B, M) bool -> logits (B, K).

        dropout_seed: key of this forward's dropout; in training without one nothing is dropped. Every parameter takes
        part in the result, so data-parallel training need not look for unused ones; B may be 0. with_unimodal: logits
        (B, 1 + M, K), beside those of all modalities those of each as if the others were missing.
        """
        features = [self._features(name, images[name], present[:, m]) for m, name in enumerate(self.names)]
        generator = None if dropout_seed is None else torch.Generator().manual_seed(dropout_seed)
        logits: torch.Tensor = self.head(torch.cat(features, dim=1), generator)  # (B, M * F)
        if not with_unimodal:
            return logits
        missing = [self.missing[_key(name)].expand(len(present), -1).to(features[0].dtype) for name in self.names]
        unimodal = [[*missing[:m], features[m], *missing[m + 1 :]] for m in range(len(self.names))]
        return torch.stack([logits, *(self.head(torch.cat(parts, dim=1)) for parts in unimodal)], dim=1)

    def _features(self, name: str, images: torch.Tensor, present: torch.Tensor) -> torch.Tensor:
        """(B, F): the branch's features of the images that are there, the learned vector for the others."""
        branch = self.branches[_key(name)]
        rows = present.nonzero().squeeze(1)
        missing = self.missing[_key(name)].expand(len(present), -1)
        if not self.training:
            # Batch norm mixes nothing now, and the rounding of a convolution depends on the size of its batch: a
            # case's features must not depend on what is missing in the others.
            whole = torch.where(present.view(-1, *[1] * (images.ndim - 1)), images, 0.0)
            return torch.where(present[:, None], branch(whole), missing)
        if len(rows) == 0 and self.run_empty_branches:
            branch.eval()  # batch statistics of an empty batch are NaN
            nothing = branch(images[:0]).sum()
            branch.train()
            return missing + nothing
        if len(rows) == 0:
            # Zero times its parameters: the branch stays in the graph, its normalisation sees nothing.
            return missing + 0 * sum(parameter.sum() for parameter in branch.parameters())
        if len(rows) == len(present):
            features: torch.Tensor = branch(images)
            return features + 0 * missing
        found = branch(images[rows])
        return missing.to(found.dtype).index_put((rows,), found)


def _key(name: str) -> str:
    """A modality's name in the containers, which cannot hold what is a method of theirs, such as `type`."""
    is_taken = hasattr(nn.ModuleDict(), name) or hasattr(nn.ParameterDict(), name)
    return f"{name}-" if is_taken else name


def count_parameters(model: Model, modalities: Mapping[str, Modality], num_classes: int) -> int:
    """Parameters of the model of a configuration, without the memory for them."""
    with torch.device("meta"):
        network = build_model(model, modalities, num_classes, seed=0)
    return sum(parameter.numel() for parameter in network.parameters())


def build_model(model: Model, modalities: Mapping[str, Modality], num_classes: int, *, seed: int) -> FusionModel:
    """The model of a configuration, its first weights from the seed alone."""
    width = {"backbone": None, "classes": num_classes}.get(str(model.features), model.features)
    assert not isinstance(width, str)
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)  # torch.manual_seed would reach the GPUs' generators, too
        branches = {
            name: build_branch(model.backbone, dims=modality.dims, num_features=width, norm=model.norm)
            for name, modality in modalities.items()
        }
        num_inputs = sum(features for _, features in branches.values())
        return FusionModel(branches, Head(num_inputs, model.hidden, num_classes, dropout=model.dropout))
