"""The judge: asked only what rules cannot decide, in batches that canaries guard.

Replies of a batch become verdicts when every canary in it was answered as it should be. A killed
job asks again only what it holds no reply to.
"""

import random
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from sem.core import files
from sem.core.errors import SemError
from sem.eval.judge import canaries, judge_prompts
from sem.eval.judge.canaries import Canary
from sem.eval.judge.judge_config import JudgeSettings
from sem.eval.judge.judge_prompts import JudgeMode, JudgeQuestion, Opinion
from sem.lm.api import calls
from sem.lm.api.calls import CallOutcome, ChatRequest
from sem.lm.api.client import CallEstimate, Client

# Faults that all further calls would meet as well: the job stops and can be continued.
STOPS = {
    "budget": "raise calls.max_usd or calls.max_requests, or wait for the next day",
    "circuit": "see what the server says in the transcript, then run again",
    "auth": "check the key that calls.models names",
    "forbidden": "check what the key may use",
}
# From the name of a mode and of a batch.
Guards = Callable[[str, str], list[Canary]]


@dataclass(frozen=True)
class JudgeItem:
    """One thing to be judged as a whole: an id and its questions."""

    id: str
    questions: tuple[JudgeQuestion, ...]


@dataclass(frozen=True)
class JudgeBatch:
    """Items that share canaries; `name` depends on what is asked alone."""

    name: str
    items: tuple[JudgeItem, ...]
    canaries: tuple[Canary, ...]

    @property
    def questions(self) -> list[JudgeQuestion]:
        """Return each distinct question once."""
        by_text = {q.text: q for item in self.items for q in item.questions}
        return list(by_text.values())


@dataclass
class JudgeSpending(calls.CallSpending):
    """What a job has cost so far, and how many canaries were among it."""

    canaries: int = 0


@dataclass(frozen=True)
class Judge:
    """A mode of judging, its settings, its client and its transcript."""

    mode: JudgeMode
    settings: JudgeSettings
    client: Client
    transcript: Path
    spending: JudgeSpending = field(default_factory=JudgeSpending)
    guards: Guards = canaries.canaries_of_batch

    def batches(self, items: Sequence[JudgeItem]) -> list[JudgeBatch]:
        """Return `items` cut so that each batch holds about `batch` questions."""
        groups: list[list[JudgeItem]] = []
        size = self.settings.batch
        for item in items:
            if size >= self.settings.batch:
                groups.append([])
                size = 0
            groups[-1].append(item)
            size += len(item.questions)
        return [self._batch(group) for group in groups if any(item.questions for item in group)]

    def _batch(self, items: list[JudgeItem]) -> JudgeBatch:
        texts = [question.text for item in items for question in item.questions]
        name = files.sha256_json(texts)[:12]
        return JudgeBatch(name, tuple(items), tuple(self.guards(self.mode.name, name)))

    def estimate(self, items: Sequence[JudgeItem]) -> CallEstimate:
        """Return what judging `items` will cost; nothing is sent."""
        asks = [request for batch in self.batches(items) for *_, request in self._asks(batch)]
        return self.client.estimate(asks)

    def opinions(self, batch: JudgeBatch) -> dict[str, Opinion]:
        """Return the opinion on each question of `batch` by its text.

        Raise SemError when the batch is void.
        """
        outcomes = self._asked(batch)
        opinions = {
            canary.question.id: judge_prompts.combine_replies(
                self.mode, outcomes[canary.question.id]
            )
            for canary in batch.canaries
        }
        self.spending.canaries += len(opinions)
        wrong = canaries.list_canary_failures(list(batch.canaries), opinions)
        if wrong:
            raise SemError(
                f"batch {batch.name} is void, {len(wrong)} of {len(opinions)} canaries were "
                f"judged wrong: {'; '.join(wrong)}",
                f"none of its verdicts counts; use another judge model ({self.transcript})",
            )
        return {
            q.text: judge_prompts.combine_replies(self.mode, outcomes[q.text])
            for q in batch.questions
        }

    def _asked(self, batch: JudgeBatch) -> dict[str, list[CallOutcome]]:
        """Outcomes in both orders, by question text or canary id."""
        asks = self._asks(batch)
        outcomes_by_name: dict[str, dict[bool, CallOutcome]] = {}
        outcomes = self.client.ask_all(request for *_, request in asks)
        with files.open_for_append(self.transcript) as file, closing(outcomes):
            for number, outcome in outcomes:
                name, question, swapped, request = asks[number]
                self.spending.add(outcome)
                files.append_row(file, self._line(batch, question, swapped, request, outcome))
                calls.stop_on_fatal_fault(
                    outcome, "the judge stopped", STOPS, "verdicts so far are kept"
                )
                outcomes_by_name.setdefault(name, {})[swapped] = outcome
        return {
            name: [both[key] for key in sorted(both)] for name, both in outcomes_by_name.items()
        }

    def _asks(self, batch: JudgeBatch) -> list[tuple[str, JudgeQuestion, bool, ChatRequest]]:
        """Return everything to ask, canaries at random places among the questions."""
        orders = (False, True) if self.settings.both_orders else (False,)
        asks = [
            (question.text, question, swapped, self._request(question, swapped, ""))
            for question in batch.questions
            for swapped in orders
        ]
        # Canaries in both orders always: else a judge that prefers a place is not noticed.
        asks += [
            (c.question.id, c.question, swapped, self._request(c.question, swapped, batch.name))
            for c in batch.canaries
            for swapped in (False, True)
        ]
        random.Random(f"{self.settings.seed} {batch.name}").shuffle(asks)
        return asks

    def _request(self, question: JudgeQuestion, swapped: bool, tag: str) -> ChatRequest:
        salt = self.client.ledger.salt
        return judge_prompts.judge_request(
            self.mode, question, swapped, salt, tag, self.settings.ask
        )

    def _line(
        self,
        batch: JudgeBatch,
        question: JudgeQuestion,
        swapped: bool,
        request: ChatRequest,
        outcome: CallOutcome,
    ) -> dict[str, Any]:
        """Return one row of the transcript."""
        return {
            "batch": batch.name,
            "id": question.id,
            "slot": question.slot,
            "mode": self.mode.name,
            "swapped": swapped,
            "prompt_sha256": files.sha256_json([list(m) for m in request.messages]),
            "prompt_version": request.prompt_version,
            "model": outcome.model,
            "tokens_in": outcome.tokens_in,
            "tokens_out": outcome.tokens_out,
            "usd": outcome.usd,
            "latency_ms": outcome.latency_ms,
            "requests": outcome.requests,
            "cached": outcome.cached,
            "fault": outcome.fault,
            "detail": outcome.detail,
            "reply": outcome.text,
        }


def judge_items(
    judge: Judge, items: Sequence[JudgeItem], settled_ids: Collection[str] = ()
) -> Iterator[tuple[JudgeItem, list[Opinion]]]:
    """Yield each of `items` that is not in `settled_ids` with the opinions on its questions.

    Items without a question come first.

    Batches are cut from all `items`: a resumed sitting asks the same canaries as the killed one,
    finds their replies in the ledger and pays for none of them again.
    """
    for item in items:
        if not item.questions and item.id not in settled_ids:
            yield item, []
    for batch in judge.batches([item for item in items if item.questions]):
        if all(item.id in settled_ids for item in batch.items):
            continue
        opinions = judge.opinions(batch)
        for item in batch.items:
            if item.id not in settled_ids:
                yield item, [opinions[question.text] for question in item.questions]


def spending_json(spending: JudgeSpending) -> dict[str, Any]:
    """Return `spending` as the summary holds it."""
    return {**asdict(spending), "usd": round(spending.usd, 9)}
