"""Data: tensor stores, batch loading, augmentation, sampling."""
