"""How a contributed row pulls: the likeness of its gradient to that of the benchmark.

Gradients are of a square layer before the head, the one place where a row's gradient costs no
backward pass through the model: the sum over answer tokens of (what the loss changes in the
state) times (the state). A row whose gradient points where the benchmark's does lowers its loss
to first order (TracIn, Pruthi et al. 2020, on the last layer; by cosine, as LESS, Xia et al.
2024, because a wrong answer has a large gradient, too).
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from sem.preview.lora import bench as benches
from sem.train.engine import arguments, loss
from sem.train.rows.data import TrainingRow
from sem.train.rows.stages import TrainingJob


@dataclass(frozen=True)
class GradientLikeness:
    """One row under a model that has not seen it."""

    # Mean log-likelihood a token of its answer.
    score: float
    # Cosine of its gradient and the benchmark's, -1 to 1.
    likeness: float


def measure_gradient_likeness(
    job: TrainingJob,
    model: Any,
    tested: Sequence[TrainingRow],
    contribution: Sequence[TrainingRow],
) -> tuple[list[float], list[GradientLikeness]]:
    """Return the score of each of `tested`, and each of `contribution` by the gradient of `tested`
    together.
    """
    import torch

    scores, total = [], None
    for row, value, gradient in _gradients(job, model, tested):
        scores.append(value / row.trained)
        total = gradient if total is None else total + gradient
    goal = torch.nn.functional.normalize(total.flatten(), dim=0) if total is not None else None
    row_pulls = []
    for row, value, gradient in _gradients(job, model, contribution if goal is not None else ()):
        own = torch.nn.functional.normalize(gradient.flatten(), dim=0)
        row_pulls.append(GradientLikeness(value / row.trained, float(own @ goal)))
    return scores, row_pulls


def _gradients(
    job: TrainingJob, model: Any, rows: Sequence[TrainingRow]
) -> Iterator[tuple[TrainingRow, float, Any]]:
    """Yield each of `rows`, its log-likelihood, and its gradient a token, (width, width) in
    fp32.
    """
    import torch

    model.eval()
    place = 0
    for batch in benches.padded_batches(job, model, rows):
        with torch.no_grad(), arguments.precision_context(job, model):
            states = loss.select_labelled_states(model, batch)
        hidden = states.hidden.detach().requires_grad_()
        with torch.enable_grad(), arguments.precision_context(job, model):
            values = loss.values_of(model, hidden, states.wanted)
        change = torch.autograd.grad(values.sum(), hidden)[0].float()
        before = hidden.detach().float()
        # Places that only fill up have no loss, so no gradient.
        likely = loss.TokenLosses(
            values.detach(), states.sequence, states.weights, states.sequences
        ).by_sequence()
        for number in range(states.sequences):
            mine, row = states.sequence == number, rows[place]
            yield row, float(likely[number]), change[mine].mT @ before[mine] / row.trained
            place += 1
