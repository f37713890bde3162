"""Care of what lies on disk."""
