"""The lower layers of a base model: computed once a row, the same as when nothing is kept."""

from pathlib import Path

import pytest

from sem.core.project import Project
from sem.dataset.split import snapshot
from sem.preview.lora import bench, frozen_layers
from sem.preview.lora.bench import Bench, EncodedSplit, ExampleSplit


def shallow(project: Project, folder: Path) -> tuple[Bench, EncodedSplit]:
    frozen = snapshot.load_snapshot(project, None)
    train, val = (tuple(frozen.examples(part)) for part in ("train", "val"))
    made = bench.build_shallow_bench(
        bench.prepare_bench(project, project.base_model_id, folder / "w")
    )
    return made, bench.encode_split(made, ExampleSplit(train[:8], train[8:12], val))


@pytest.mark.parametrize(
    ("config", "found"),
    [
        ({"num_hidden_layers": 30}, (26, 4)),
        ({"num_hidden_layers": 2}, (1, 1)),
        ({"num_hidden_layers": 1}, None),
        ({"num_layers": 8}, None),
        ({"num_hidden_layers": 8, "is_encoder_decoder": True}, None),
    ],
)
def test_the_last_layers_are_trained(config: dict, found: tuple | None) -> None:
    made = frozen_layers.frozen_layers_of(config)
    assert (made and (made.count, made.trained)) == found


def test_a_full_fine_tune_has_no_shallow_form(cut_toy, tmp_path) -> None:
    files = cut_toy.configs / "train.yaml"
    files.write_text("method: full\n")
    assert (
        bench.build_shallow_bench(
            bench.prepare_bench(cut_toy, cut_toy.base_model_id, tmp_path / "w")
        )
        is None
    )


def test_only_the_last_layers_learn_and_what_is_kept_is_what_is_computed(
    cut_toy, tmp_path
) -> None:
    made, rows = shallow(cut_toy, tmp_path)
    model = bench.train_from_start(made, rows.base.kept, 3)
    learnt = {
        name.split(".layers.")[1].split(".")[0]
        for name, weight in model.named_parameters()
        if weight.requires_grad
    }
    assert learnt == {str(n) for n in range(made.lower.count, made.lower.of)}
    bench.pass_frozen_layers(made, model, rows.tested.kept)
    seen = {row.ids for row in (*rows.base.kept, *rows.tested.kept)}
    assert set(made.lower.states) == seen
    kept = bench.answer_likelihoods(made.job, model, rows.tested.kept)
    made.lower.states.clear()
    assert bench.answer_likelihoods(made.job, model, rows.tested.kept) == pytest.approx(
        kept, abs=1e-6
    )
    assert not made.lower.states  # only `through` keeps


def test_a_row_passes_once(cut_toy, tmp_path) -> None:
    made, rows = shallow(cut_toy, tmp_path)
    twice = [*rows.base.kept, *rows.base.kept, *rows.given.kept]
    assert len(frozen_layers.select_unseen_rows(made.lower, twice)) == len(
        {row.ids for row in twice}
    )
    bench.pass_frozen_layers(made, bench.load_fresh_model(made), rows.base.kept)
    assert {row.ids for row in frozen_layers.select_unseen_rows(made.lower, twice)} == {
        row.ids for row in rows.given.kept
    }
