"""Semantic closeness of two texts by a local sentence-embedding model, no network.

all-MiniLM-L6-v2 with mean pooling (Reimers & Gurevych 2019), the cosine of two vectors. It
stands in for the judge until one is configured, and the report says so.
"""

from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Any

from sem.eval.scoring.slots import Similarity


def load_lazily(folder: Callable[[], Path]) -> Similarity:
    """Return `load` of what `folder` gives, loaded when two texts are compared for the first time.

    Imports torch then and not before: a report without free texts needs none.
    """

    @lru_cache(maxsize=1)
    def loaded() -> Similarity:
        return load_similarity(folder())

    return lambda text, other: loaded()(text, other)


def load_similarity(folder: Path) -> Similarity:
    """Cosine similarity of two texts under the model in `folder`."""
    import torch
    from transformers import AutoModel, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
    model = AutoModel.from_pretrained(folder, use_safetensors=True, trust_remote_code=False)
    model = model.eval().float()

    @lru_cache(maxsize=4096)
    def vector(text: str) -> Any:
        batch = tokenizer(text, truncation=True, max_length=256, return_tensors="pt")
        with torch.inference_mode():
            hidden = model(**batch).last_hidden_state
        weights = batch["attention_mask"].unsqueeze(-1)
        mean = (hidden * weights).sum(1) / weights.sum(1)
        return torch.nn.functional.normalize(mean[0], dim=0)

    def similarity(text: str, other: str) -> float:
        return round(float(vector(text) @ vector(other)), 6)

    return similarity
