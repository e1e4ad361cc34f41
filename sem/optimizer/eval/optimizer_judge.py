"""The judge of configs/judge.yaml, seated for the optimizer.

Everything that makes it safe is its own (eval/judge): fenced data, a strict form of reply, both
orders, canaries in every batch, caps, cache and ledger. A sitting that ends early keeps the
batches that were sound.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path

from sem.core import console
from sem.core.errors import SemError
from sem.core.project import Project
from sem.eval.judge import canaries, judge, judge_config
from sem.eval.judge.judge import Guards, Judge, JudgeItem, JudgeSpending
from sem.eval.judge.judge_config import JudgeSettings
from sem.eval.judge.judge_prompts import JudgeMode, JudgeQuestion, Opinion
from sem.lm.api.client import Client


@dataclass(frozen=True)
class JudgeSitting:
    """The opinions of one sitting by question id, and why it ended early, if it did."""

    opinions: dict[str, Opinion]
    stopped: SemError | None = None


@dataclass(frozen=True)
class OptimizerJudge:
    """The configured judge and where its replies are written."""

    settings: JudgeSettings
    client: Client
    transcript: Path
    spending: JudgeSpending = field(default_factory=JudgeSpending)

    @property
    def name(self) -> str:
        """Return the models, in the order in which they are asked."""
        return ", ".join(
            f"{provider.model}@{provider.revision}" if provider.revision else provider.model
            for provider in self.settings.calls.models
        )

    def hear(
        self,
        mode: JudgeMode,
        questions: Sequence[JudgeQuestion],
        guards: Guards = canaries.canaries_of_batch,
    ) -> JudgeSitting:
        """Return the opinions of `mode` on `questions`, each with its own id."""
        # A judge that prefers a place would decide: what flips with the order decides nothing.
        settings = replace(self.settings, both_orders=True)
        seated = Judge(mode, settings, self.client, self.transcript, self.spending, guards)
        items = [JudgeItem(question.id, (question,)) for question in questions]
        opinions: dict[str, Opinion] = {}
        try:
            verdicts = judge.judge_items(seated, items)
            for item, (opinion,) in console.show_progress(
                verdicts, len(items), f"{mode.name}, judged"
            ):
                opinions[item.id] = opinion
        except SemError as error:
            return JudgeSitting(opinions, error)
        return JudgeSitting(opinions)


def optimizer_judge_settings(root: Path) -> JudgeSettings:
    """Return the judge of configs/judge.yaml below `root`, or of the environment.

    It may name no model.
    """
    return judge_config.load_judge_config(_place(root))


def load_optimizer_judge(root: Path, at: datetime) -> OptimizerJudge:
    """Return the configured judge, ready to be asked; raise SemError when no model is named."""
    place, settings = _place(root), optimizer_judge_settings(root)
    transcript = place.reports / f"judge_run_{at:%Y%m%dT%H%M%SZ}.jsonl"
    return OptimizerJudge(settings, judge_config.judge_client(place, settings, at), transcript)


def _place(root: Path) -> Project:
    # The optimizer is not a sem, but lies where one would: it may have its own judge.yaml.
    return Project("optimizer", root)
