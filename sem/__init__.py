"""Sem makes small expert models: examples in, a proven and packaged model out."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sem.package.serve.expert import Expert

__all__ = ["Expert"]
__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    """Return the Expert, imported when it is first asked for: it brings torch."""
    if name == "Expert":
        from sem.package.serve.expert import Expert

        return Expert
    raise AttributeError(f"module 'sem' has no attribute {name!r}")
