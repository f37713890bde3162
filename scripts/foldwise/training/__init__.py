"""Training: Lightning module, losses, optimisers, callbacks."""
