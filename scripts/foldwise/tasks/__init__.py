"""Tasks: dataset sources, descriptions, splits, folds, tags."""
