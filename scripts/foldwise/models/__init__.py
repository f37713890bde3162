"""Models: backbones, heads, networks."""
