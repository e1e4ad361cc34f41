"""Encoder-decoder models (the T5 family): the prompt goes in, the answer comes out."""

from typing import Any

from sem.train.engine import backend_trl
from sem.train.engine.fit import fit_stages
from sem.train.rows.stages import Job


def train(job: Job, resume: bool) -> dict[str, Any]:
    """Train `job` with transformers' Seq2SeqTrainer and PEFT."""
    return fit_stages(job, backend_trl.load_trl_base(job), resume)
