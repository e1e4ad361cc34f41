"""One block of a page: its text and addresses, and where on the page it stood."""

import re
from dataclasses import dataclass

LINK = frozenset({"link"})
SHAPE_WORDS = re.compile(r"[^\W\d_]{2,}")


@dataclass(frozen=True)
class Address:
    """Where a link or image points: kind is link, paging, contact, image or meta image."""

    kind: str
    value: str
    rank: int = 0

    def __str__(self) -> str:
        return f" ({self.value})"


@dataclass(frozen=True)
class PageLine:
    """One block of a page; its parts are text and addresses."""

    kind: str
    parts: tuple[str | Address, ...]
    section: str = ""
    hint: str = ""
    # Tag and class of the element, to see cards repeat.
    shape: str = ""
    prefix: str = ""  # `# `, `- `
    # The hint, where it is shown.
    label: str = ""
    # Which element the hint comes from.
    mark: int = 0
    # How deep that element is.
    depth: int = 0
    # Most of its text is the text of links.
    is_linked: bool = False

    def render(self, form: str = "lines") -> str:
        """Return the line as it is shown: `price: 9 €`, or `main>p.price | 9 €` if addressed."""
        text = "".join(str(part) for part in self.parts).strip()
        if not text or form == "lines":
            return f"{self.prefix}{self.label}{text}" if text else ""
        return f"{self.address} | {text}"

    @property
    def address(self) -> str:
        """Return where the line stood.

        `main>div.product price`, the names as the page spells them.
        """
        tag, _, label = self.shape.partition(".")
        names = " ".join(SHAPE_WORDS.findall(label)[:3])
        tag = f"h{len(self.prefix) - 1}" if self.prefix.startswith("#") else tag or self.kind
        return f"{self.section or 'main'}>{tag}{'.' if names else ''}{names}"

    def __len__(self) -> int:
        return sum(len(part if isinstance(part, str) else part.value) for part in self.parts)

    def without(self, kinds: frozenset[str]) -> "PageLine":
        """Return this line less its addresses of `kinds`."""
        if not self.has(kinds):
            return self
        parts = tuple(p for p in self.parts if isinstance(p, str) or p.kind not in kinds)
        return self.with_parts(parts)

    def with_parts(
        self, parts: tuple[str | Address, ...], is_linked: bool | None = None
    ) -> "PageLine":
        """Return this line with other `parts`; several times as fast as `dataclasses.replace`."""
        return PageLine(
            self.kind,
            parts,
            self.section,
            self.hint,
            self.shape,
            self.prefix,
            self.label,
            self.mark,
            self.depth,
            self.is_linked if is_linked is None else is_linked,
        )

    def has(self, kinds: frozenset[str]) -> bool:
        """Return True if the line holds an address of `kinds`."""
        return any(isinstance(part, Address) and part.kind in kinds for part in self.parts)
