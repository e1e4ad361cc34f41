"""What a template returns: markup for the page's body and, for some, for its head."""

from collections.abc import Callable
from dataclasses import dataclass

from sem.dataset.demo.view import View


@dataclass(frozen=True)
class Body:
    """The main part of a page."""

    main: str
    head: str = ""


Template = Callable[[View], Body]
