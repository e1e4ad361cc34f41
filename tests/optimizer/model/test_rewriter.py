"""The network and nothing beside it: decoding, limits, and no layout without training."""

import ast
import json
from pathlib import Path

import pytest
from paths import ROOT
from rewriters import make_optimizer
from toy import make_t5

from sem.core import files
from sem.core.errors import SemError
from sem.lm.local import chat
from sem.optimizer import layout
from sem.optimizer.model import rewriter
from sem.optimizer.model.rewriter import Decoding, TorchRewriter

LIBRARY = ROOT / "sem" / "optimizer"
PROMPTS = ["plan a trip", "fix {this}\nnow", "a longer prompt about gardens"]
FLAN = ROOT / "models" / "base" / "flan-t5-small-titler"


@pytest.fixture(scope="module")
def t5(tmp_path_factory) -> Path:
    return make_t5(tmp_path_factory.mktemp("weights") / "t5")


@pytest.fixture(scope="module")
def network(t5: Path, tmp_path_factory) -> TorchRewriter:
    root = tmp_path_factory.mktemp("tree")
    return TorchRewriter.load(make_optimizer(root, t5), root)


def decoded(network: TorchRewriter, **how: float) -> list[str]:
    said = network.rewrite(PROMPTS, Decoding(max_tokens=12, **how))
    return [one.text for one in said]


def test_greedy_is_the_model_s_own_argmax(network: TorchRewriter):
    import torch

    ids = torch.tensor([rewriter.encode_prompt(network.speaker, PROMPTS[0])])
    said = [0]
    for _ in range(12):
        found = network.model(input_ids=ids, decoder_input_ids=torch.tensor([said])).logits
        found[..., network.silent] = -torch.inf
        said.append(int(found[0, -1].argmax()))
    made = network.rewrite([PROMPTS[0]], Decoding(max_tokens=12, penalty=1))[0]

    expected = said[1:13]
    kept = expected[: expected.index(1)] if 1 in expected else expected
    assert made.text == network.speaker.decode(kept)


def test_the_likelihood_is_the_mean_log_p_of_what_was_written(network: TorchRewriter):
    import torch

    made = network.rewrite([PROMPTS[0]], Decoding(max_tokens=6, penalty=1))[0]
    ids = torch.tensor([rewriter.encode_prompt(network.speaker, PROMPTS[0])])
    out = network.model.generate(
        input_ids=ids, max_new_tokens=6, do_sample=False, suppress_tokens=network.silent
    )[:, 1:]
    logits = network.model(input_ids=ids, labels=out).logits
    logits[..., network.silent] = -torch.inf
    loss = torch.nn.functional.cross_entropy(logits[0], out[0])

    assert made.tokens == out.shape[1]
    assert made.mean_logprob == pytest.approx(-loss.item(), abs=1e-4)


def test_a_sentinel_that_stands_for_nothing_is_never_written(network: TorchRewriter):
    import torch

    wanted, head = network.silent[0], network.model.lm_head.weight.data
    ids = torch.tensor([rewriter.encode_prompt(network.speaker, PROMPTS[0])])
    seen = network.model(
        input_ids=ids, decoder_input_ids=torch.tensor([[0]]), output_hidden_states=True
    )
    was = head[wanted].clone()
    head[wanted] = seen.decoder_hidden_states[-1][0, -1].detach() * 100
    out = network.model.generate(input_ids=ids, max_new_tokens=4, do_sample=False)
    made = network.rewrite([PROMPTS[0]], Decoding(max_tokens=4, beams=1))[0]
    head[wanted] = was

    # It would have been the likeliest.
    assert wanted in out[0].tolist()
    assert not [
        token for token in rewriter.list_unwritable_tokens(network.speaker) if token in made.text
    ]


@pytest.mark.parametrize("how", [{"beams": 1}, {"beams": 3}, {"temperature": 0.8, "seed": 4}])
def test_a_rewrite_does_not_depend_on_its_neighbours(network: TorchRewriter, how):
    together = decoded(network, **how)
    alone = [network.rewrite([p], Decoding(max_tokens=12, **how))[0].text for p in PROMPTS]

    assert together == alone


def test_what_is_drawn_follows_the_seed(network: TorchRewriter):
    first = decoded(network, temperature=1.5, seed=1)

    assert decoded(network, temperature=1.5, seed=1) == first
    assert decoded(network, temperature=1.5, seed=2) != first
    assert decoded(network, beams=1) != first


def test_draws_have_the_model_s_own_probabilities(network: TorchRewriter):
    import torch

    scores = torch.log(torch.tensor([[0.7, 0.2, 0.1]]))
    drawn = [
        int(rewriter.GumbelSampler([[seed]], Decoding(temperature=1.0))(None, scores).argmax())
        for seed in range(600)
    ]

    # Four standard errors of a share of 600 are 0.075 at most.
    assert drawn.count(0) / 600 == pytest.approx(0.7, abs=0.075)
    assert drawn.count(2) / 600 == pytest.approx(0.1, abs=0.05)


def test_a_prompt_that_is_too_long_is_refused_and_not_cut(network: TorchRewriter):
    long = "word " * 200

    assert network.count(long) > network.limit
    with pytest.raises(
        SemError, match=rf"a prompt is {network.count(long)} tokens, at most 128 are read"
    ):
        network.rewrite(["short", long], Decoding(max_tokens=2))


def test_a_prompt_cannot_forge_a_control_token(network: TorchRewriter):
    ids = rewriter.encode_prompt(network.speaker, "a </s> b <extra_id_98> c <pad>")

    assert ids.count(network.end) == 1
    assert ids[-1] == network.end
    assert network.pad not in ids


def test_lines_of_a_prompt_reach_the_network_and_come_back(network: TorchRewriter):
    ids = rewriter.encode_prompt(network.speaker, "one\ntwo {x}")

    assert network.speaker.decode(ids[:-1]) == rewriter.PREFIX + "one\ntwo {x}"


WRONG = [
    {"max_tokens": 0},
    {"beams": 0},
    {"temperature": -0.1},
    {"temperature": 2.1},
]


@pytest.mark.parametrize("how", WRONG)
def test_decoding_that_makes_no_sense_is_refused(how):
    with pytest.raises(SemError, match="1 token and 1 beam or more, and a temperature from 0"):
        Decoding(**how)


@pytest.mark.parametrize("penalty", [0.9, 2.1])
def test_a_penalty_that_makes_no_sense_is_refused(penalty: float):
    with pytest.raises(SemError, match=rf"decoding with penalty {penalty}\n +use 1 \(none\) to 2"):
        Decoding(penalty=penalty)


def test_with_a_zero_adapter_the_network_is_its_base(t5: Path, tmp_path):
    zero = TorchRewriter.load(make_optimizer(tmp_path, t5, scale=0.0), tmp_path)
    base = TorchRewriter.of(t5, None)

    assert decoded(zero, beams=1) == decoded(base, beams=1)
    assert all(layout.read_layout(text) is None for text in decoded(zero, beams=1))


@pytest.mark.slow
@pytest.mark.skipif(not FLAN.is_dir(), reason="fab env.weights flan-t5-small-titler")
def test_the_real_base_without_training_writes_no_layout(tmp_path):
    zero = TorchRewriter.load(make_optimizer(tmp_path, FLAN, scale=0.0), tmp_path)
    prompts = ["create function", "plan a trip to Japan", "Write a cover letter for a nurse."]
    made = zero.rewrite(prompts, Decoding(max_tokens=160, beams=1))

    assert [layout.read_layout(one.text) for one in made] == [None] * 3
    assert not any("Constraints:" in one.text for one in made)


def test_no_module_that_answers_can_write_a_layout():
    # Training data is written by `layout.write` and the families; serving reads neither.
    for path in [
        LIBRARY / "model" / "rewriter.py",
        LIBRARY / "model" / "fast_rewriter.py",
        *(LIBRARY / "server").glob("*.py"),
    ]:
        tree = ast.parse(path.read_text())
        names = {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
        names |= {a.name for n in ast.walk(tree) if isinstance(n, ast.ImportFrom) for a in n.names}
        calls = {
            node.attr
            for node in ast.walk(tree)
            if isinstance(node, ast.Attribute) and getattr(node.value, "id", "") == "layout"
        }
        assert not {"families", "pairs", "data"} & names, path
        assert "write" not in calls, path


def test_the_promoted_one_is_found_before_the_newest(t5: Path, tmp_path):
    with pytest.raises(SemError, match="no trained optimizer in"):
        rewriter.find_optimizer(tmp_path)
    first, second = (make_optimizer(tmp_path, t5, name) for name in ("run1", "run2"))
    assert rewriter.find_optimizer(tmp_path) == second

    files.write_file(first.parent / rewriter.PROMOTED, json.dumps({"run": "run1"}))

    assert rewriter.find_optimizer(tmp_path) == first
    assert rewriter.find_optimizer(tmp_path, "run2") == second
    with pytest.raises(SemError, match="no trained optimizer 'run3'"):
        rewriter.find_optimizer(tmp_path, "run3")


def test_an_optimizer_that_changed_on_disk_is_refused(t5: Path, tmp_path):
    folder = make_optimizer(tmp_path, t5)
    files.write_file(folder / "calibration.json", "{}")

    with pytest.raises(SemError, match=r"calibration\.json is not what its manifest says"):
        rewriter.find_optimizer(tmp_path)


def test_an_adapter_alone_names_its_base_and_is_never_replaced_by_it(t5: Path, tmp_path):
    adapter = make_optimizer(tmp_path, t5) / "adapter"
    with pytest.raises(SemError, match="no trained adapter"):
        TorchRewriter.of_adapter(tmp_path / "nothing", tmp_path)
    with pytest.raises(SemError, match="names no base model"):
        TorchRewriter.of_adapter(adapter, tmp_path)
    config = files.read_json(adapter / "adapter_config.json")
    config["base_model_name_or_path"] = str(t5)
    files.write_file(adapter / "adapter_config.json", json.dumps(config))

    alone = TorchRewriter.of_adapter(adapter, tmp_path)

    whole = TorchRewriter.load(adapter.parent, tmp_path)
    assert decoded(alone, beams=1) == decoded(whole, beams=1)


def test_a_causal_model_is_no_rewriter(tiny_model: Path):
    with pytest.raises(SemError, match="not an encoder-decoder"):
        TorchRewriter.of(tiny_model, None)


def test_the_prefix_is_part_of_what_was_trained(network: TorchRewriter):
    speaker = chat.Chat(network.speaker.tokenizer, turns=False)

    assert rewriter.encode_prompt(speaker, "x") == speaker.prompt_ids(
        "", "Optimize this prompt: x"
    )
