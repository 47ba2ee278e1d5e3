"""The rows of several micro-batches in one pass."""

import numpy as np
import torch

from vwmm.models.micro_batches import MicroBatches, group, one_micro_batch

# Of micro-batches 0, 0, 0, 1, 1, 2, 2: the first modality lacks one of 0, the second all of 1 and one of 2.
PRESENT = np.array([[1, 1], [0, 1], [1, 1], [1, 0], [1, 0], [1, 0], [1, 1]], dtype=bool)
SEVERAL = MicroBatches(PRESENT, (3, 2, 2), (7, 8, 9))


def test_micro_batches_with_equally_many_images_are_together() -> None:
    assert group([2, 0, 3, 2, 1]) == ([4, 0, 3, 2], [(1, 1), (2, 2), (3, 1)])
    assert group([0, 0]) == ([], [])


def test_rows_follow_one_another_by_micro_batch() -> None:
    assert SEVERAL.rows() == [range(3), range(3, 5), range(5, 7)]


def test_images_are_ordered_with_the_micro_batch_as_the_fastest_index() -> None:
    rows, shapes = SEVERAL.order(0)
    assert (rows, shapes) == ([0, 3, 5, 2, 4, 6], [(2, 3)])
    stacked = torch.tensor(rows).view(2, 3)  # as batch norm sees them: a column is a micro-batch
    assert stacked[:, 1].tolist() == [3, 4]


def test_missing_images_and_empty_micro_batches_are_left_out() -> None:
    assert SEVERAL.order(1) == ([6, 0, 1, 2], [(1, 1), (3, 1)])


def test_one_micro_batch_needs_no_order() -> None:
    alone = one_micro_batch(torch.from_numpy(PRESENT[:3]), 7)
    assert (alone.sizes, alone.dropout_seeds) == ((3,), (7,))
    assert alone.order(0) == ([0, 2], [])
    assert MicroBatches(PRESENT[:0], ()).order(0) == ([], [])
