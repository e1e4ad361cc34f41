"""Sem makes small expert models: examples in, a proven and packaged model out."""

__version__ = "0.1.0"
