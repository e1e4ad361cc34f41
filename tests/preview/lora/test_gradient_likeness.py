"""A row's pull: its gradient in a layer before the head, against the benchmark's."""

import pytest
import torch

from sem.dataset.split import snapshot
from sem.preview.lora import bench, gradient_likeness
from sem.train.engine import loss
from sem.train.rows import data


@pytest.fixture
def tried(cut_toy, tmp_path):
    made = bench.prepare_bench(cut_toy, cut_toy.base_model_id, tmp_path / "w")
    found = data.encode_examples(
        tuple(snapshot.load_snapshot(cut_toy, None).examples("val")), made.writer
    ).kept
    return made.job, bench.load_fresh_model(made), found


def layers_gradient(job, model, row) -> torch.Tensor:
    """Return the gradient of a square layer that begins as nothing, by torch itself."""
    batch = next(bench.padded_batches(job, model, [row]))
    with torch.no_grad():
        found = loss.select_labelled_states(model, batch)
    layer = torch.zeros(found.hidden.shape[1], found.hidden.shape[1], requires_grad=True)
    hidden = found.hidden.float()
    head = model.get_base_model().get_output_embeddings().weight.detach().float()
    logits = (hidden + hidden @ layer.mT) @ head.mT
    torch.nn.functional.cross_entropy(logits, found.wanted, reduction="sum").backward()
    return layer.grad / row.trained


def test_gradients_are_those_of_a_layer_before_the_head(tried) -> None:
    job, model, rows = tried
    for row, value, gradient in gradient_likeness._gradients(job, model, rows[:5]):
        expected = layers_gradient(job, model, row)
        assert torch.allclose(gradient, expected, atol=0.02 * expected.abs().max())
        assert value == pytest.approx(
            bench.answer_likelihoods(job, model, [row])[0] * row.trained, rel=1e-2
        )


def test_scores_are_the_usual_ones_and_a_row_alone_pulls_as_itself(tried) -> None:
    job, model, rows = tried
    scores, pulls = gradient_likeness.measure_gradient_likeness(job, model, rows[:1], rows[:3])
    assert scores == pytest.approx(bench.answer_likelihoods(job, model, rows[:1]), rel=1e-2)
    assert pulls[0].likeness == pytest.approx(1.0, abs=1e-3)
    assert all(-1.0 <= one.likeness < 0.999 for one in pulls[1:])
    assert pulls[0].score == pytest.approx(scores[0], rel=1e-2)
