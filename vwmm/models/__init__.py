"""From images and a mask to logits: one branch per modality, fusion, and the loss."""
