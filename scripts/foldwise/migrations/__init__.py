"""Roads between formats: from and to what other programs write."""
