"""vwmm: distributed training for multimodal medical image classification."""

__version__ = "0.1.0"
