"""Example: one input and its reference, as every stage passes it on."""

from dataclasses import dataclass, field
from typing import Any

from sem.core import jsonio, state
from sem.core.errors import SemError, suggest_nearest_name

# Older spellings (docs/formats.md), read and never written.
SPELLINGS = {
    "input_text": ("input_text", "prompt_text", "prompt", "user_prompt"),
    "output_json": (
        "output_json",
        "response_strong",
        "response_payload",
        "response",
        "target",
        "expected",
        "answer",
    ),
    "meta": ("meta", "metadata"),
}


# Names that many owners have: shop.de and shop.fr need not be one shop.
_SHARED = (
    "shop store online web site home info blog news mail email forum wiki app apps media group "
    "global world international market marketplace outlet sale deals fashion jobs travel hotel "
    "hotels games sport sports music books food health auto cars test demo example localhost "
    # Hosts whose customers have folders, not domains of their own.
    "blogspot wordpress tumblr wixsite weebly jimdo squarespace myshopify webnode github"
)
SHARED_NAMES = frozenset(_SHARED.split())


def registered_name(domain: str) -> str:
    """Return the name that an owner registered, without its suffix: `acme.de` -> `acme`.

    One brand sells under many TLDs with one template: its pages belong together. `domain` is a
    registered domain, an IP address or a name of an intranet; the last two are returned as they
    are, and so is a domain of SHARED_NAMES.
    """
    name, dot, _ = domain.removeprefix("www.").partition(".")
    is_address = ":" in domain or domain.replace(".", "").isdigit()
    return domain if not dot or is_address or name in SHARED_NAMES else name


@dataclass(frozen=True)
class Example:
    """One record. `output_json` is any JSON value the task's io_schema allows."""

    id: str
    task: str
    input_text: str
    output_json: Any
    meta: dict[str, Any] = field(default_factory=dict)
    # None: the TaskSpec's own.
    system_prompt: str | None = None
    # None: the TaskSpec's own.
    slot_specs: dict[str, Any] | None = None
    # The document the example came from.
    source_id: str | None = None
    # Wrong answers, for preference training.
    negative_examples: list[Any] | None = None

    @property
    def domain(self) -> str:
        """Return the registered domain, or '' where the input has none."""
        return str(self.meta.get("domain") or "")

    @property
    def site(self) -> str:
        """Return the registered name, the same under every TLD, or '' where the input has none."""
        return registered_name(self.domain)

    @property
    def language(self) -> str | None:
        """Return the language of the input, where it is known."""
        named = str(self.meta.get("language") or "")
        return named if named not in ("", "und") else None

    @property
    def unit(self) -> str:
        """Return what was drawn as one.

        The site, where there is none the document, else the row.
        """
        return self.site or self.source_id or self.id

    @property
    def stratum(self) -> str:
        """Page type and language, as splits are balanced by."""
        return f"{self.meta.get('page_type') or '-'}|{self.meta.get('language') or 'und'}"

    @property
    def alternatives(self) -> dict[str, list[Any]]:
        """Further right answers by slot, from `meta.alternatives`; none where it holds none."""
        return read_alternatives(self.meta.get("alternatives")) or {}

    def as_json(self) -> dict[str, Any]:
        """Return one row of a snapshot.

        Absent options are left out, a null answer is none of them.
        """
        # Not asdict: it copies every value of every page, and nobody changes them.
        fields = vars(self).items()
        return {n: value for n, value in fields if value is not None or n == "output_json"}

    def content(self) -> str:
        """Return what makes two examples the same: task, input and reference."""
        return jsonio.canonical_json([self.task, self.input_text, self.output_json])


def read_alternatives(value: Any) -> dict[str, list[Any]] | None:
    """Return further right answers by slot from `value`, an object or its text; None if unusable.

    `{"sku": ["A-1", "A1"]}`; one value may stand without its list.
    """
    if isinstance(value, str):
        try:
            value = jsonio.parse_json(value) if value.strip() else {}
        except ValueError:
            return None
    if value is None:
        return {}
    if not isinstance(value, dict):
        return None
    return {slot: v if isinstance(v, list) else [v] for slot, v in value.items()}


def from_json(row: Any, where: str) -> Example:
    """Return the Example in `row` of a snapshot or JSONL file.

    Raise SemError at `where` when it does not fit.
    """
    if not isinstance(row, dict):
        raise SemError(f"{where}: not a JSON object", "write one JSON object per line")
    field_names = {f.name for f in Example.__dataclass_fields__.values()}
    for name in row:
        if name not in field_names:
            raise SemError(
                f"{where}: unknown field {name!r}", suggest_nearest_name(name, field_names)
            )
    missing = {"id", "task", "input_text", "output_json"} - set(row)
    if missing:
        raise SemError(
            f"{where}: field {min(missing)!r} is missing",
            "restore the file, or cut a new snapshot with `fab dataset.split`",
        )
    return Example(**state.check_state(row, state.ExampleRow, where))
