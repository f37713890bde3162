"""The typed configuration: the one source of keys, defaults, documentation and checks."""
