"""The fast engine against the reference: the same tokens, the same likelihoods."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
from rewriters import ROOT, make_adapter, make_optimizer
from toy import make_t5

from sem.core.errors import SemError
from sem.lm.local import chat
from sem.lm.local import model as models
from sem.optimizer.model.fast_rewriter import Engine, FastRewriter, convert_to_ctranslate2
from sem.optimizer.model.rewriter import Decoding, Rewrite, TorchRewriter, encode_prompt

PROMPTS = [
    "write code",
    "make {a: 1}\nfoo\n\tbar",
    "explain the database schema please",
    "x",
    "",
    "Ünïcode — “quotes” 😀",
    "<extra_id_5> </s> <pad>",
    "sort [3, 1, 2] ~ ^ | \\ `x`",
]
GREEDY = Decoding(max_tokens=24, temperature=0.0, beams=1)


@pytest.fixture(scope="module")
def root(tmp_path_factory) -> Path:
    made = tmp_path_factory.mktemp("tree")
    make_optimizer(made, make_t5(made / "t5"))
    return made


@pytest.fixture(scope="module")
def folder(root) -> Path:
    return root / "models" / "optimizer" / "run1"


@pytest.fixture(scope="module")
def torch_rewriter(root, folder) -> TorchRewriter:
    return TorchRewriter.load(folder, root)


@pytest.fixture(scope="module")
def exact(root, folder) -> FastRewriter:
    return FastRewriter.load(folder, root, Engine("float32", 1))


@pytest.fixture(scope="module")
def fast(root, folder) -> FastRewriter:
    return FastRewriter.load(folder, root, Engine("int8", 1))


def texts(rewrites: list) -> list[tuple[str, int, bool]]:
    return [(each.text, each.tokens, each.finished) for each in rewrites]


@pytest.mark.parametrize("penalty", [1.0, 1.3])
def test_in_fp32_it_writes_what_pytorch_writes(exact, torch_rewriter, penalty):
    how = replace(GREEDY, penalty=penalty)
    there, here = torch_rewriter.rewrite(PROMPTS, how), exact.rewrite(PROMPTS, how)

    # Not one text for every prompt.
    assert len({each.text for each in there}) > 2
    assert texts(here) == texts(there)
    assert [e.mean_logprob for e in here] == pytest.approx(
        [e.mean_logprob for e in there], abs=1e-4
    )


def heard(rewriter: FastRewriter, prompt: str, decoding: Decoding) -> tuple[Rewrite, list[int]]:
    """Return a rewrite of `prompt`, and the ids of its tokens."""
    ids: list[int] = []
    (made,) = rewriter.rewrite([prompt], decoding, lambda row, token: ids.append(token) or False)
    return made, ids


def sure(rewriter: TorchRewriter, prompt: str, ids: list[int]) -> float:
    """Return what the reference says of IDS as a rewrite of `prompt`: the mean log p."""
    padded = rewriter._padded([encode_prompt(rewriter.speaker, prompt)])
    return rewriter._likelihoods(*padded, [ids], GREEDY.penalty)[0]


def test_int8_is_a_quarter_of_the_size(fast, exact, folder):
    sizes = {p.parent.name[:4]: p.stat().st_size for p in folder.glob("fast/*/model.bin")}

    # Norms and biases stay as they are.
    assert sizes["int8"] < 0.5 * sizes["floa"]


def test_a_text_does_not_depend_on_its_batch(fast):
    together = fast.rewrite(PROMPTS, GREEDY)

    assert texts(together) == texts([fast.rewrite([p], GREEDY)[0] for p in PROMPTS])


def test_what_is_drawn_varies_and_its_likelihood_is_at_temperature_one(exact, torch_rewriter):
    drawn = [heard(exact, "write code", Decoding(12, 1.7, 1)) for _ in range(8)]

    assert len({made.text for made, _ in drawn}) > 1
    for made, ids in drawn:
        expected = sure(torch_rewriter, "write code", ids)
        assert made.mean_logprob == pytest.approx(expected, abs=1e-3)


def test_a_watcher_sees_each_token_and_can_end_a_row(fast):
    seen: list[tuple[int, int]] = []

    def watch(row: int, token: int) -> bool:
        seen.append((row, token))
        return row == 1 and sum(r == 1 for r, _ in seen) == 3

    first, second = fast.rewrite(["write code", "sort a list"], GREEDY, watch)

    assert fast.text([token for row, token in seen if row == 0][: first.tokens]) == first.text
    assert (second.tokens, second.finished) == (3, False)


def test_a_long_prompt_is_refused_and_not_cut(fast):
    words = "a " * 200

    assert fast.count(words) > fast.limit
    with pytest.raises(
        SemError, match=f"a prompt is {fast.count(words)} tokens, at most 128 are read"
    ):
        fast.rewrite(["short", words], GREEDY)
    assert fast.rewrite([], GREEDY) == []


def test_what_was_converted_is_used_again_until_it_is_damaged_or_the_adapter_changes(root):
    folder = make_optimizer(root, root / "t5", "other")
    places = lambda: sorted(folder.glob("fast/float32-*"))  # noqa: E731
    FastRewriter.load(folder, root)
    (place,) = places()
    model = place / "model.bin"
    first = model.stat().st_mtime_ns
    FastRewriter.load(folder, root)
    assert model.stat().st_mtime_ns == first

    model.write_bytes(model.read_bytes()[:-1])
    FastRewriter.load(folder, root)
    assert model.stat().st_mtime_ns != first

    path = folder / "adapter" / "adapter_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"lora_alpha": 16}))
    FastRewriter.load(folder, root)
    assert len(places()) == 2
    assert not list(folder.glob("fast/.building-*"))


def test_every_token_has_a_name_of_its_own(fast, folder):
    (path,) = folder.glob("fast/int8-*/shared_vocabulary.json")
    names = json.loads(path.read_text())

    assert len(set(names)) == len(names)


def test_an_engine_that_is_none_is_refused():
    with pytest.raises(SemError, match="engine with weights 'int4' and 2 threads"):
        Engine("int4")


@pytest.mark.slow
def test_the_real_small_t5_writes_what_pytorch_writes_and_int8_nearly(tmp_path):
    base = ROOT / "models" / "base" / "flan-t5-small-titler"
    if not base.exists():
        pytest.skip("flan-t5-small-titler is not installed")
    adapter, speaker = make_adapter(tmp_path / "adapter", base, 0.005), chat.load_chat(base)
    merged = lambda: models.merge_adapter(models.load_model(base, "float32"), adapter)  # noqa: E731
    there, made = TorchRewriter(merged(), speaker), {}
    for kind in ("float32", "int8"):
        place = convert_to_ctranslate2(merged(), speaker, tmp_path / kind, kind)
        made[kind] = FastRewriter.open(place, speaker, Engine(kind, 1))

    expected = texts(there.rewrite(PROMPTS, GREEDY))
    assert texts(made["float32"].rewrite(PROMPTS, GREEDY)) == expected
    for prompt in PROMPTS:
        rewrite, ids = heard(made["int8"], prompt, GREEDY)
        assert rewrite.mean_logprob == pytest.approx(sure(there, prompt, ids), abs=0.3)
