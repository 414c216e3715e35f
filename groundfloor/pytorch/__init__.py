"""What the PyTorch packages share: batches on the device, checkpoints."""
