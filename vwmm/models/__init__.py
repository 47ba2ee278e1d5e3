"""The network: one branch per modality, fusion, loss."""
