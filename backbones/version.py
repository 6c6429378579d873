"""The project's version: the one place, from which pyproject.toml takes it."""

__version__ = "0.1.0"
