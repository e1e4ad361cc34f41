"""Is a rewrite good? Structure, intent, growth and diversity; base against tuned, paired.

Everything here looks at texts only. Structure: `layout.flaws`. Intent: the task kept word for
word, and the cosine of the raw prompt and what was made of it under a sentence-embedding model.
Differences are paired by prompt, with the interval of eval/clusters over task families.
"""

from collections.abc import Callable, Sequence, Sized
from dataclasses import dataclass
from itertools import pairwise
from statistics import fmean, median

from sem.dataset.clean import near_duplicates
from sem.eval.scoring.slots import Similarity
from sem.eval.stats import clusters, paired_stats
from sem.eval.stats.paired_stats import Difference
from sem.optimizer import layout
from sem.optimizer.model import confidence
from sem.optimizer.model.confidence import Calibration
from sem.optimizer.model.rewriter import Decoding, Rewrite, Rewriter

BATCH = 8


@dataclass(frozen=True)
class EvalPrompt:
    """A prompt to rewrite; rows of one `family` are alike."""

    id: str
    prompt: str
    family: str


@dataclass(frozen=True)
class MeasuredRewrite:
    """One rewrite and what is true of it; shares are 0 to 1."""

    asked: EvalPrompt
    text: str
    flaws: tuple[str, ...]
    has_layout: bool
    keeps_task: bool  # word for word
    # Cosine of prompt and rewrite, 0 where it is negative.
    intent: float
    # Times as many characters.
    growth: float
    useful: bool
    confidence: float | None
    mean_logprob: float


def rewrite_all(
    network: Rewriter, requests: Sequence[EvalPrompt], decoding: Decoding
) -> tuple[list[tuple[EvalPrompt, Rewrite]], list[EvalPrompt]]:
    """Return the rewrites of `requests`, and those that are longer than `network` reads."""
    fits = [request for request in requests if network.count(request.prompt) <= network.limit]
    rewrites: dict[int, Rewrite] = {}
    for part in length_batches([request.prompt for request in fits]):
        part_rewrites = network.rewrite([fits[n].prompt for n in part], decoding)
        rewrites.update(zip(part, part_rewrites, strict=True))
    pairs = [(request, rewrites[n]) for n, request in enumerate(fits)]
    return pairs, [request for request in requests if request not in fits]


def length_batches(texts: Sequence[Sized]) -> list[list[int]]:
    """Return the places of `texts` in batches of like length, so that little is padding."""
    order = sorted(range(len(texts)), key=lambda n: (len(texts[n]), n))
    return [order[start : start + BATCH] for start in range(0, len(order), BATCH)]


def judge_rewrite(
    request: EvalPrompt, rewrite: Rewrite, similarity: Similarity, worth: Calibration | None = None
) -> MeasuredRewrite:
    """Return what is true of `rewrite`; its confidence under `worth`."""
    flaws = [
        *layout.find_rewrite_flaws(rewrite.text, request.prompt),
        *([] if rewrite.finished else ["cut"]),
    ]
    parts = layout.read_layout(rewrite.text)
    keeps_task = layout.fold_layout_text(request.prompt) in layout.fold_layout_text(rewrite.text)
    return MeasuredRewrite(
        asked=request,
        text=rewrite.text,
        flaws=tuple(flaws),
        has_layout=parts is not None,
        keeps_task=layout.fold_layout_text(parts.task) == layout.fold_layout_text(request.prompt)
        if parts
        else keeps_task,
        intent=max(0.0, similarity(request.prompt, rewrite.text)) if rewrite.text.strip() else 0.0,
        growth=len(rewrite.text) / max(1, len(request.prompt)),
        useful=layout.is_useful(rewrite.text, request.prompt, rewrite.finished),
        confidence=confidence.rewrite_confidence(rewrite, request.prompt, worth)
        if worth
        else None,
        mean_logprob=rewrite.mean_logprob,
    )


MEASURES: dict[str, Callable[[MeasuredRewrite], float]] = {
    "useful: whole, sound, task kept": lambda answer: float(answer.useful),
    "has the layout": lambda answer: float(answer.has_layout),
    "keeps the task word for word": lambda answer: float(answer.keeps_task),
    "intent (cosine with the prompt)": lambda answer: answer.intent,
    "not bloated": lambda answer: float("bloated" not in answer.flaws),
    "not stuffed": lambda answer: float("stuffed" not in answer.flaws),
}


def compare_sides(
    before: Sequence[MeasuredRewrite], after: Sequence[MeasuredRewrite]
) -> dict[str, Difference]:
    """Return `after` minus `before` in every measure, in points, paired by id, clustered by
    family.
    """
    was = {row.asked.id: row for row in before}
    pairs = [(was[row.asked.id], row) for row in after if row.asked.id in was]
    unpaired = len(before) + len(after) - 2 * len(pairs)
    return {
        name: paired_values(
            [(value(old), value(new), new.asked.family) for old, new in pairs], unpaired
        )
        for name, value in MEASURES.items()
    }


def paired_values(
    values: Sequence[tuple[float | None, float | None, str]], unpaired: int = 0
) -> Difference:
    """After minus before of each of `values` (before, after, family), 0 to 1, in points.

    A pair in which a side is None is left out and counted as unscored.
    """
    differences = [
        (new - old, kin) for old, new, kin in values if old is not None and new is not None
    ]
    moved = clusters.sum_by_cluster(
        [value for value, _ in differences], [kin for _, kin in differences]
    )
    return paired_stats.mean_difference(
        paired_stats.PairedDifferences(moved, unpaired, len(values) - len(differences)), draws=0
    )


def average_measures(rows: Sequence[MeasuredRewrite]) -> dict[str, float]:
    """Return the mean of every measure over `rows`, 0 to 1."""
    return {name: fmean(map(value, rows)) if rows else 0.0 for name, value in MEASURES.items()}


@dataclass(frozen=True)
class Variety:
    """How different rewrites are from each other, the tasks left out."""

    # Different pairs of words over all pairs of words.
    distinct_2: float
    # Mean likeness (Jaccard index of 5-grams) to the likest other rewrite.
    nearest: float
    # Share that says exactly what another one says.
    same: float
    # Median, in characters.
    growth: float


def measure_variety(rows: Sequence[MeasuredRewrite]) -> Variety:
    """Return the variety of `rows`."""
    texts = [row.text.replace(row.asked.prompt, " ") for row in rows]
    words = [text.casefold().split() for text in texts]
    pairs = [pair for tokens in words for pair in pairwise(tokens)]
    grams = [near_duplicates.hash_ngrams(text) for text in texts]
    nearest = [
        max(
            (near_duplicates.jaccard_index(own, other) for m, other in enumerate(grams) if m != n),
            default=0.0,
        )
        for n, own in enumerate(grams)
    ]
    exact = sum(value == 1.0 for value in nearest) / max(1, len(rows))
    growth = median(row.growth for row in rows) if rows else 0.0
    distinct = len(set(pairs)) / max(1, len(pairs))
    return Variety(distinct, fmean(nearest) if nearest else 0.0, exact, growth)


@dataclass(frozen=True)
class ConfidenceReliability:
    """What a confidence above 0.5 is worth."""

    shown: int  # rewrites above 0.5
    useful_shown: int
    # Useful ones at 0.5 or below.
    hidden_useful: int
    # Mean squared error of the confidence.
    brier: float
    # Above 0.5 by the calibrated likelihood alone.
    likelihood_shown: int
    likelihood_useful: int


def measure_reliability(
    rows: Sequence[MeasuredRewrite], worth: Calibration
) -> ConfidenceReliability:
    """Return how the confidence of `rows`, and the likelihood behind it, agree with usefulness."""
    sure = [(row.confidence or 0.0, row.useful) for row in rows]
    alone = [
        (confidence.calibrated_likelihood(row.mean_logprob, worth), row.useful) for row in rows
    ]
    above = [useful for value, useful in sure if value > confidence.DOUBT]
    likely = [useful for value, useful in alone if value > confidence.DOUBT]
    return ConfidenceReliability(
        shown=len(above),
        useful_shown=sum(above),
        hidden_useful=sum(useful for value, useful in sure if value <= confidence.DOUBT),
        brier=fmean((value - useful) ** 2 for value, useful in sure) if sure else 0.0,
        likelihood_shown=len(likely),
        likelihood_useful=sum(likely),
    )
