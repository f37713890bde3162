"""Inference: logits and metrics."""
