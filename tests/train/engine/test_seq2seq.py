"""An encoder-decoder through the whole loop: spelled, trained, resumed, answered, packaged."""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from toy import make_t5

from sem.core import files
from sem.core.errors import SemError
from sem.core.project import Project
from sem.dataset.clean import clean
from sem.dataset.split import snapshot
from sem.eval.answers import subject
from sem.lm.local import chat
from sem.lm.local import model as models
from sem.train.engine import loss, trainer
from sem.train.engine.batches import IGNORED
from sem.train.run import plan


@pytest.fixture(scope="module")
def t5(tmp_path_factory) -> Path:
    return make_t5(tmp_path_factory.mktemp("weights") / "t5")


@pytest.fixture
def project(toy: Path, t5: Path) -> Project:
    """The toy project on an encoder-decoder."""
    path = toy / "configs" / "toy" / "tasks" / "price.json"
    spec = json.loads(path.read_text()) | {"base_model_id": str(t5)}
    files.write_file(path, json.dumps(spec))
    made = Project.load("toy")
    clean.clean_store(made)
    snapshot.freeze_snapshot(made, plan.provenance.utc_now())
    return made


def test_what_the_tokenizer_cannot_spell_comes_back_as_it_was(t5: Path) -> None:
    speaker = chat.load_chat(t5)
    assert set(" {}<\n\t\\`~^") == set(speaker.spelling.tokens)

    letters = st.sampled_from('ab12{}[]"<>\n\t\\:,. ~^|`złåЖ日é\u0301—“ﬁ😀\u00a0')
    anything = st.characters(exclude_categories=("Cs",))

    @given(st.text(letters | anything, min_size=1, max_size=40))
    def check(text: str) -> None:
        assert speaker.decode(speaker.answer_ids(text)[:-1]) == speaker.neutral(text)

    check()


def test_a_code_point_that_is_none_is_nothing(t5: Path) -> None:
    spelling = chat.load_chat(t5).spelling
    said = (f"a{spelling.escape}{number}{spelling.escape}b" for number in (55296, 1114112, 322))
    assert [spelling.back(text) for text in said] == ["ab", "ab", "ałb"]


def test_a_page_cannot_forge_what_stands_for_a_character(t5: Path) -> None:
    speaker = chat.load_chat(t5)
    token = speaker.spelling.tokens["{"]
    number = speaker.tokenizer.convert_tokens_to_ids(token)
    assert number not in speaker.answer_ids(f"a {token} b")
    assert number in speaker.answer_ids("a { b")


def test_the_loss_is_the_model_s_own_on_the_answer(project, t5: Path) -> None:
    import torch

    made = plan.prepare_training(project, None)
    assert made.plan()["engine"] == "seq2seq"
    job = plan.load_training_job(project, made)
    model = models.load_model(t5, "float32")
    batch = trainer.build_collator(job, model)(trainer.stage_records(job.stages[0])[:5])
    count = (batch["labels"] != IGNORED).sum()
    names = ("input_ids", "attention_mask", "labels")
    full = model(**{name: batch[name] for name in names}).loss
    assert torch.allclose(loss.answer_loss(model, batch, count), full, atol=1e-5)


def test_train_resume_answer_and_package(project) -> None:
    made = plan.prepare_training(project, None)
    plan.train_prepared(project, made, resume=False)
    whole = files.sha256_file(made.adapter / "adapter_model.safetensors")
    (made.folder / "manifest.json").unlink()
    newest = max(made.folder.glob("checkpoint-*"), key=lambda p: int(p.name.split("-")[1]))
    (newest / "optimizer.pt").unlink()
    plan.train_prepared(project, made, resume=True)
    assert files.sha256_file(made.adapter / "adapter_model.safetensors") == whole
    found = subject.resolve_subject(project, made.id, "test", None)
    subject.answer_subject(found)
    answers = [json.loads(line) for line in found.book.path.read_text().splitlines()]
    assert len(answers) == len(found.examples)
    assert all("<extra_id" not in row["text"] for row in answers)


def test_what_a_causal_model_can_and_it_cannot_is_refused(project) -> None:
    with pytest.raises(SemError, match="preference training needs a causal model"):
        plan.prepare_training(Project.load("toy", ["train.preference.method=dpo"]), None)
    with pytest.raises(SemError, match="engine: trl does not train an encoder-decoder"):
        plan.prepare_training(Project.load("toy", ["train.engine=trl"]), None)
