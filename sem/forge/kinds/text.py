"""TextForge: documents -> chunks -> what the teacher is asked -> question and answer pairs.

class Handbook(TextForge):
    def chunks(self, document):            # one section of each document alone
        pieces = super().chunks(document)
        return [c for c in pieces if "Policy" in c.headings]
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, Literal

from sem.core import settings
from sem.core.errors import SemError
from sem.core.taskspec import TaskSpec
from sem.forge.base import BaseForge, Chunk, Document, Pair
from sem.forge.reading.convert import ReadingLimits
from sem.forge.sources import chunks, documents, secret_scan
from sem.forge.sources.chunks import Count, Sizes, Skip
from sem.forge.sources.secret_scan import SecretSpan
from sem.forge.teacher import prompts


@dataclass(frozen=True)
class TextParams:
    """`params:` of forge.yaml for documents."""

    documents: ReadingLimits = field(default_factory=ReadingLimits)
    chunks: Sizes = field(default_factory=Sizes)
    # What happens to a chunk with a key in it.
    secrets: Literal["skip", "redact"] = "skip"
    # a chunk with fewer visible characters is skipped: nothing to ask.
    min_chars: int = 80
    # What stands beyond it is a counted skip.
    max_chars_per_document: int | None = None


@dataclass
class DocumentTally:
    """What became of one document's characters."""

    document: Document
    chunks: int = 0
    in_chunks: int = 0
    in_skips: int = 0
    # In neither: never, or it is a bug.
    missing: int = 0
    reasons: dict[str, int] = field(default_factory=dict)


class TextForge(BaseForge):
    """Chunks of documents are its items; the teacher asks and answers about each."""

    Params: type[TextParams] = TextParams

    @cached_property
    def params(self) -> Any:
        """Return the checked `params:`."""
        return settings.build_settings(self.Params, dict(self.config.params), "forge.yaml: params")

    @cached_property
    def task(self) -> TaskSpec | None:
        """Return the TaskSpec that the pairs are for; None in a test without forge.yaml."""
        return pairs_task(self.config)

    def load(self) -> Iterator[Chunk]:
        """Yield every chunk of every readable document; the rest is in `config.skipped`."""
        for document in self.documents():
            yield from self.chunks(document)

    def synthesize(self, items: Iterable[Chunk]) -> Iterator[Pair]:
        """Yield what the teacher makes of each chunk, in their order.

        Unusable replies are skipped.
        """
        ask = self.config.ask
        if ask is None:
            raise SemError(f"{type(self).__name__} needs a teacher", "name one in forge.yaml")
        brief = self.brief()
        requests = ((chunk, prompts.pairs_request(chunk, brief, ask)) for chunk in items)
        for chunk, request, outcome in ask.answered(requests):
            pairs, unusable = prompts.pairs_of_reply(chunk, request, outcome, brief)
            self.config.skipped.extend(row.as_json() for row in unusable)
            yield from pairs

    def source_of(self, item: Chunk) -> str:
        """Return its document."""
        return item.document

    def documents(self) -> Iterator[Document]:
        """Yield the readable sources in the order of their names."""
        for document in documents.read_documents(
            self.config.raw, self.params.documents, self.skip
        ):
            if secret_scan.find_secrets(document.name):
                self.skip(Skip(document.name, "file", "secret", "in its name"))
                continue
            for note in document.notes:
                self.config.notes.append(f"{document.name}: {note}")
            yield document

    def chunks(self, document: Document) -> list[Chunk]:
        """Return the chunks of `document` that may be sent, without keys.

        What is left out is said.
        """
        return self._chunks(document)[0]

    def tallied(self) -> Iterator[tuple[list[Chunk], DocumentTally]]:
        """Yield the chunks of each document and what became of its characters; nobody is asked."""
        for document in self.documents():
            yield self._chunks(document)

    def brief(self) -> prompts.PromptBrief:
        """Return what all requests have in common."""
        forge_settings, task = self.config.settings, self.task
        if forge_settings is None:
            return prompts.PromptBrief(seed=self.config.seed)
        return prompts.PromptBrief(
            pairs=forge_settings.pairs_per_chunk,
            diversity=forge_settings.diversity,
            language=forge_settings.language,
            about=task.system_prompt if task else "",
            answer=task.io_schema if task else None,
            task=task.task_id if task else None,
            seed=self.config.seed,
        )

    def skip(self, skip: Skip) -> None:
        """Note what is left out."""
        self.config.skipped.append(skip.as_json())

    def _chunks(self, document: Document) -> tuple[list[Chunk], DocumentTally]:
        secrets = secret_scan.find_secrets(document.text)
        whole, beyond = self._shortened(document)
        pieces = chunks.cut_chunks(whole, self.params.chunks, self._tokens)
        pieces = replace(pieces, skips=(*pieces.skips, *beyond))
        usable_chunks, skips = [], list(pieces.skips)
        for chunk in pieces.chunks:
            checked = self._checked(chunk, secrets)
            if isinstance(checked, Skip):
                skips.append(checked)
            else:
                usable_chunks.append(checked)
        for skip in skips:
            self.skip(skip)
        return usable_chunks, tally_characters(document, usable_chunks, skips)

    def _shortened(self, document: Document) -> tuple[Document, list[Skip]]:
        most = self.params.max_chars_per_document
        if most is None or len(document.text) <= most:
            return document, []
        span = (most, len(document.text))
        return replace(document, text=document.text[:most]), [
            Skip(document.name, "span", "max_chars_per_document", span=span)
        ]

    def _checked(self, chunk: Chunk, all_secrets: list[SecretSpan]) -> Chunk | Skip:
        """Return `chunk` as it may be sent, or why it may not."""
        span = (chunk.start, chunk.end)
        secrets = secret_scan.secrets_within(all_secrets, *span)
        if secrets and self.params.secrets == "skip":
            kinds = ", ".join(sorted({secret.kind for secret in secrets}))
            return Skip(chunk.document, "chunk", "secret", kinds, span, chunk.sha256)
        if sum(not c.isspace() for c in chunk.text) < self.params.min_chars:
            return Skip(chunk.document, "chunk", "short", "", span, chunk.sha256)
        if secrets:
            kinds = ", ".join(sorted({secret.kind for secret in secrets}))
            self.config.notes.append(f"{chunk.document}: {kinds} masked in {chunk.id}")
        text = secret_scan.hide_secret_spans(chunk.text, secrets, chunk.start)
        # A heading goes with every chunk below it, and its secret would, too.
        above = tuple(
            secret_scan.hide_secret_spans(h, secret_scan.find_secrets(h)) for h in chunk.headings
        )
        return replace(chunk, text=text, headings=above)

    @cached_property
    def _tokens(self) -> Count | None:
        if self.params.chunks.max_tokens is None:
            return None
        return counter_of(self.config.project)


def tally_characters(
    document: Document, usable_chunks: list[Chunk], skips: list[Skip]
) -> DocumentTally:
    """Count the characters of `document` in `usable_chunks`, in `skips`, and in neither."""
    pieces = chunks.DocumentChunks(tuple(usable_chunks), tuple(skips))
    in_chunks = len(document.text) - _length(
        chunks.DocumentChunks(tuple(usable_chunks)).missing(document)
    )
    missing = _length(pieces.missing(document))
    reasons: dict[str, int] = {}
    for skip in skips:
        reasons[skip.reason] = reasons.get(skip.reason, 0) + 1
    rest = len(document.text) - in_chunks - missing
    return DocumentTally(document, len(usable_chunks), in_chunks, rest, missing, reasons)


def _length(spans: list[tuple[int, int]]) -> int:
    return sum(end - start for start, end in spans)


def pairs_task(config: Any) -> TaskSpec | None:
    """Return the TaskSpec that `config`'s pairs are for.

    Raise SemError when it does not say which of several.
    """
    if config.settings is None:
        return None
    tasks = config.project.tasks
    named = config.settings.task
    if named is None and len(tasks) > 1:
        raise SemError(
            f"forge.yaml: no task is named, and this sem has {len(tasks)}",
            f"write task: {sorted(tasks)[0]}, or another of: {', '.join(sorted(tasks))}",
        )
    if named is not None and named not in tasks:
        from sem.core.errors import suggest_nearest_name

        raise SemError(f"forge.yaml: no task {named!r}", suggest_nearest_name(named, tasks))
    return tasks[named] if named else next(iter(tasks.values()))


def counter_of(project: Any) -> Count:
    """Counts tokens by the base model's tokenizer.

    Raise SemError when its weights are not there.
    """
    from sem.core import files
    from sem.dataset.clean import tokens
    from sem.lm.weights import weights

    folder = weights.base_of(project).folder
    return tokens.make_token_counter(files.read_text(folder / "tokenizer.json"))
