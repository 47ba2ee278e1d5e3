"""Further changes of an image, one function each, applied after those of augment.py.

A function gets the modality's settings and random numbers of its own, samples its parameters, and returns what applies
them to (H, W, D) float32 on any device, or None where this image is left as it is. Its name in `CHANGES` stands in
captions. A change that is added, removed or switched off leaves the parameters of all others as they are.

    def inverted(settings: Augmentation, random: np.random.Generator) -> Apply | None:
        if random.random() >= settings.inversion_chance:
            return None
        return lambda image: image.amax() + image.amin() - image
"""

from collections.abc import Callable

import numpy as np
import torch

from vwmm.config.schema import Augmentation

Apply = Callable[[torch.Tensor], torch.Tensor]
Change = Callable[[Augmentation, np.random.Generator], Apply | None]
CHANGES: dict[str, Change] = {}
