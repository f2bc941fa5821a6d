"""An independent reference for the served engine: plain PyTorch over the very weights that a model folder ships."""
