"""The fast path against transformers' and PEFT's own, on tiny real models of four families."""

import copy
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from paths import ROOT
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import AutoModelForCausalLM, GPT2Config, GPT2LMHeadModel
from transformers.models.gemma3 import Gemma3ForCausalLM, Gemma3TextConfig
from transformers.models.llama import LlamaConfig, LlamaForCausalLM
from transformers.models.qwen2 import Qwen2Config, Qwen2ForCausalLM
from transformers.models.qwen3 import Qwen3Config, Qwen3ForCausalLM

from sem.train.fast import attention, head, layers

SHAPE = {
    "vocab_size": 96,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "attn_implementation": "sdpa",
}
WINDOWED = {
    "sliding_window": 9,
    "layer_types": ["sliding_attention", "sliding_attention", "full_attention"],
    "query_pre_attn_scalar": 8,
}
FAMILIES = {
    "llama": lambda: LlamaForCausalLM(LlamaConfig(**SHAPE)),
    "qwen2": lambda: Qwen2ForCausalLM(Qwen2Config(**SHAPE)),  # biases on q, k and v
    "qwen3": lambda: Qwen3ForCausalLM(Qwen3Config(**SHAPE)),  # norms on q and k
    "gemma3": lambda: Gemma3ForCausalLM(Gemma3TextConfig(**SHAPE, **WINDOWED)),
}
NONE = torch.tensor([50, 50, 50])
RIGHT = torch.tensor([50, 41, 7])


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Several blocks in a width of 50, the last one short."""
    monkeypatch.setattr(attention, "BLOCK", 16)


def made(family: str, dtype: torch.dtype = torch.float32, **lora: object) -> PeftModel:
    torch.manual_seed(0)
    base = FAMILIES[family]()
    # Zero biases and norms would hide mistakes.
    for name, weight in base.named_parameters():
        if name.endswith("bias") or "norm" in name:
            weight.data.add_(torch.randn_like(weight) * 0.1)
    config = LoraConfig(r=4, lora_alpha=8, target_modules="all-linear", **lora)
    model = get_peft_model(base.to(dtype), config)
    for name, weight in model.named_parameters():
        if "lora_B" in name:
            weight.data.normal_(0, 0.2)
    return model.train()


def faster(model: PeftModel) -> PeftModel:
    twin = copy.deepcopy(model)
    layers.speed_up(twin, tokens=0)
    return twin


def learned(model: PeftModel, lengths: torch.Tensor, left: bool = False) -> dict:
    """Loss and gradients of one micro-batch with the last 10 real tokens of a row labelled."""
    torch.manual_seed(1)
    width = int(lengths.max())
    place = torch.arange(width).flip(0) if left else torch.arange(width)
    mask = (place < lengths[:, None]).long()
    ids = torch.randint(3, 96, (len(lengths), width))
    labels = ids.masked_fill((mask == 0) | (mask.cumsum(1) < mask.sum(1, keepdim=True) - 9), -100)
    model.zero_grad()
    loss = model(input_ids=ids, attention_mask=mask, labels=labels).loss
    loss.backward()
    found = {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}
    return found | {"loss": loss.detach()}


def gap(one: dict, two: dict) -> float:
    """Return the largest difference of a tensor, as a share of its norm."""
    assert one.keys() == two.keys()
    return max(
        float((one[name] - two[name]).norm() / one[name].norm().clamp(min=1e-9)) for name in one
    )


def far(truth: dict, found: dict) -> float:
    """Return the distance between whole gradients, as a share of the true one's length."""
    one, two = (
        torch.cat([each[n].float().flatten() for n in sorted(truth)]) for each in (truth, found)
    )
    return float((one - two).norm() / one.norm())


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("kept", [2**23, 0], ids=["probabilities kept", "made again"])
@pytest.mark.parametrize("lengths", [NONE, RIGHT], ids=["whole", "padded"])
def test_gradients_are_those_of_the_plain_path(family, kept, lengths, monkeypatch) -> None:
    monkeypatch.setattr(attention, "KEPT", kept)
    model = made(family)
    assert gap(learned(model, lengths), learned(faster(model), lengths)) < 2e-5


@pytest.mark.parametrize("family", FAMILIES)
def test_padding_on_the_left_keeps_its_mask(family) -> None:
    model = made(family)
    assert gap(learned(model, RIGHT, left=True), learned(faster(model), RIGHT, left=True)) < 2e-5


@pytest.mark.parametrize("family", FAMILIES)
def test_bf16_is_about_as_far_from_fp32_as_the_plain_path(family) -> None:
    truth = learned(made(family), NONE)
    model = made(family, torch.bfloat16)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        plain, fast = learned(model, NONE), learned(faster(model), NONE)
    assert far(truth, fast) < 1.5 * far(truth, plain) < 0.05


@pytest.mark.parametrize("family", FAMILIES)
def test_checkpointing_changes_nothing(family) -> None:
    model = faster(made(family))
    plain = learned(model, RIGHT)
    model.gradient_checkpointing_enable({"use_reentrant": False})
    model.enable_input_require_grads()
    again = learned(model, RIGHT)
    assert gap(plain, again) < 1e-5


@pytest.mark.parametrize("family", FAMILIES)
def test_twice_the_same_bits(family) -> None:
    model = faster(made(family, torch.bfloat16))
    one, two = learned(model, RIGHT), learned(model, RIGHT)
    assert all(torch.equal(one[name], two[name]) for name in one)


@pytest.mark.parametrize("family", FAMILIES)
def test_generation_with_its_cache_says_the_same(family) -> None:
    model = made(family).eval()
    ids = torch.randint(3, 96, (2, 20), generator=torch.Generator().manual_seed(3))
    words = {"max_new_tokens": 12, "do_sample": False, "pad_token_id": 0}
    assert torch.equal(model.generate(ids, **words), faster(model).generate(ids, **words))


@pytest.mark.parametrize(
    "lora", [{"lora_dropout": 0.3}, {"use_dora": True}, {"lora_bias": True}], ids=str
)
def test_what_is_not_plain_lora_goes_through_peft(lora) -> None:
    # qwen2 has biases on q, k and v; lora_bias wants a bias in every target.
    if "lora_bias" in lora:
        lora = lora | {"target_modules": ["q_proj", "v_proj"]}
    torch.manual_seed(0)
    config = LoraConfig(**({"r": 4, "target_modules": "all-linear"} | lora))
    model = get_peft_model(FAMILIES["qwen2"](), config).train()
    twin = faster(model)
    module = twin.base_model.model.model.layers[0].self_attn.q_proj
    assert not layers.is_plain(module)
    assert gap(learned(model, NONE), learned(twin, NONE)) < 2e-5


def test_a_disabled_adapter_and_a_merged_one_are_honoured() -> None:
    model = made("llama").eval()
    twin, ids = faster(model), torch.arange(3, 33)[None]
    with model.disable_adapter(), twin.disable_adapter():
        torch.testing.assert_close(twin(ids).logits, model(ids).logits)
    adapted = model(ids).logits
    twin.merge_adapter()
    torch.testing.assert_close(twin(ids).logits, adapted, atol=1e-5, rtol=1e-4)


def test_a_full_fine_tune_has_the_same_gradients() -> None:
    torch.manual_seed(0)
    model = FAMILIES["gemma3"]().train()
    truth = learned(model, RIGHT)
    assert gap(truth, learned(faster(model), RIGHT)) < 2e-5
    # fp32 weights, bf16 products.
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert far(truth, learned(faster(model), RIGHT)) < 0.02


def test_the_adapter_loads_in_stock_peft(tmp_path: Path) -> None:
    model = made("gemma3").eval()
    twin, ids = faster(model), torch.arange(3, 33)[None]
    assert list(twin.state_dict()) == list(model.state_dict())
    twin.save_pretrained(tmp_path / "adapter")
    twin.unload().save_pretrained(tmp_path / "base")
    base = AutoModelForCausalLM.from_pretrained(tmp_path / "base")
    loaded = PeftModel.from_pretrained(base, tmp_path / "adapter")
    assert base.config._attn_implementation == "sdpa"
    torch.testing.assert_close(loaded(ids).logits, model(ids).logits)


def test_what_is_not_known_is_left_and_said() -> None:
    model = GPT2LMHeadModel(GPT2Config(vocab_size=96, n_embd=32, n_layer=1, n_head=2))
    before = [module.forward for module in model.modules()]
    assert layers.speed_up(model, 0) == ["layers as they are: gpt2 is not known here"]
    assert [module.forward for module in model.modules()] == before
    assert layers.speed_up(made("llama"), 99_999) == [
        "attention in blocks",
        "low-rank products in place",
        "not compiled: fewer than 100,000 tokens",
    ]


@pytest.mark.parametrize("tokens", [1, 16, 300])
def test_losses_through_the_head_are_those_of_cross_entropy(tokens) -> None:
    torch.manual_seed(0)
    weight, upstream = torch.randn(70, 24), torch.rand(tokens)
    targets = torch.randint(0, 70, (tokens,))
    targets[1::3] = -100
    one = torch.randn(tokens, 24, requires_grad=True)
    two = one.detach().clone().requires_grad_()
    plain = torch.nn.functional.cross_entropy(one @ weight.mT, targets, reduction="none")
    fast = head.token_losses(two, weight, targets)
    (plain * upstream).sum().backward()
    (fast * upstream).sum().backward()
    torch.testing.assert_close(fast, plain)
    torch.testing.assert_close(two.grad, one.grad, atol=1e-5, rtol=1e-4)
    with torch.no_grad():
        torch.testing.assert_close(head.token_losses(two, weight, targets), plain)


def test_a_head_that_learns_or_caps_goes_the_plain_way() -> None:
    model = made("gemma3").get_base_model()
    assert head.is_supported_head(model.lm_head, model.config)
    model.config.final_logit_softcapping = 30.0
    assert not head.is_supported_head(model.lm_head, model.config)
    learning = torch.nn.Linear(4, 9, bias=False)
    assert not head.is_supported_head(learning, made("llama").config)


@pytest.mark.slow
@pytest.mark.parametrize("family", ["llama", "gemma3"])
def test_compiled_parts_compute_the_same(family, tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path))
    layers.why_not.cache_clear()
    if layers.why_not():
        pytest.skip(f"nothing compiles here: {layers.why_not()}")
    model = made(family)
    twin = copy.deepcopy(model)
    assert layers.speed_up(twin, 10**6)[-1] == "norms, gates and rotations compiled"
    for lengths in (NONE, RIGHT):
        assert gap(learned(model, lengths), learned(twin, lengths)) < 2e-5


@pytest.mark.slow
def test_without_a_compiler_the_same_parts_run_as_written(tmp_path) -> None:
    code = (
        "import sys; sys.path.insert(0, '.')\n"
        "from torch._inductor import config; config.cpp.cxx = ('no-such-compiler',)\n"
        "from sem.train.fast import layers\n"
        "assert layers.why_not(), 'it compiled'\n"
        "run, note = layers._runner(10**6)\n"
        "assert run is layers._plainly\n"
        "print(note)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        env={"PATH": "", "HOME": str(tmp_path), "TORCHINDUCTOR_CACHE_DIR": str(tmp_path)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-800:]
    assert done.stdout.startswith("not compiled: ")
