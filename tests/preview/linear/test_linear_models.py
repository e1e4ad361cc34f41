"""A model's file is the model, byte for byte the same; what could run code is never opened."""

import json
import pickle
import struct
import zipfile
from pathlib import Path

import numpy as np
import pytest

from sem.core.errors import SemError
from sem.preview.contribution.encoders import Features
from sem.preview.linear import learners, linear_models
from sem.preview.linear.learners import FitBudget
from tests.preview.contribution.test_encoders import shape_of, table, texts


def fitted(samples: tuple) -> learners.Model:
    return learners.fit_classifier(Features(shape_of(samples), samples), samples, FitBudget())


@pytest.mark.parametrize("samples", [texts(60), texts(60, 2), texts(9, 1), table(60)])
def test_what_is_read_says_what_was_written(tmp_path, samples) -> None:
    model = fitted(samples)
    path = linear_models.write_linear_model(tmp_path / "a.safetensors", model, samples)
    again, learnt = linear_models.read_linear_model(path)
    assert again.probabilities(samples) == pytest.approx(model.probabilities(samples), abs=1e-12)
    assert again.classes == model.classes
    assert learnt == linear_models.rows_hash(samples[::-1])
    twin = linear_models.write_linear_model(tmp_path / "b.safetensors", again, samples)
    assert twin.read_bytes() == path.read_bytes()


class Boom:
    """Makes a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple:
        return Path.touch, (self.path,)


@pytest.mark.parametrize("protocol", range(6))
@pytest.mark.parametrize("name", ["model.pkl", "model.safetensors", "model.joblib", "model.pt"])
def test_a_pickle_is_refused_by_its_first_bytes(tmp_path, name, protocol) -> None:
    canary, path = tmp_path / "canary", tmp_path / name
    path.write_bytes(pickle.dumps(Boom(canary), protocol))
    with pytest.raises(SemError) as caught:
        linear_models.read_linear_model(path)
    assert caught.value.message == (
        f"{path}: a pickle, which can run code when it is opened; refused"
    )
    assert caught.value.hint == "give a file that --save-model wrote"
    assert not canary.exists()


def test_a_package_is_no_baseline_of_classes(tmp_path) -> None:
    with pytest.raises(SemError) as caught:
        linear_models.read_linear_model(tmp_path)
    assert caught.value.message == (
        f"{tmp_path}: a folder: a package answers prompts and does not predict classes"
    )


def test_an_archive_of_pytorch_is_refused(tmp_path) -> None:
    path = tmp_path / "model.pt"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", b"\x80\x04K\x01.")
    with pytest.raises(SemError, match="a PyTorch or zip archive"):
        linear_models.read_linear_model(path)


def spoilt(path: Path, change: dict) -> Path:
    """Return `path` with `change` in what it tells."""
    raw = path.read_bytes()
    (size,) = struct.unpack("<Q", raw[:8])
    header = json.loads(raw[8 : 8 + size])
    told = json.loads(header["__metadata__"]["sem"]) | change
    header["__metadata__"]["sem"] = json.dumps(told)
    made = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(made)) + made + raw[8 + size :])
    return path


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"classes": ["0", "1"]}, "biases: (3,) of float64, not (2,)"),
        ({"classes": ["0", "0", "1"]}, "kind, classes or terms are none"),
        ({"classes": [0, 1, 2]}, "kind, classes or terms are none"),
        ({"kind": "table"}, "holds ['biases', 'rarity', 'weights'], not "),
        ({"kind": "os.system"}, "kind, classes or terms are none"),
        ({"terms": ["a"]}, "not (1,) of float64"),
        ({"format": "v0"}, "holds no sem-preview-linear.v1"),
    ],
)
def test_what_does_not_fit_together_is_refused(tmp_path, change, message) -> None:
    samples = texts(60)
    path = linear_models.write_linear_model(tmp_path / "a.safetensors", fitted(samples), samples)
    with pytest.raises(SemError) as caught:
        linear_models.read_linear_model(spoilt(path, change))
    assert message in caught.value.message


@pytest.mark.parametrize("content", [b"", b"{}", b"\xff" * 64, b"\x10" + b"\0" * 7 + b"{" * 20])
def test_what_is_no_safetensors_is_one_line(tmp_path, content) -> None:
    path = tmp_path / "a.safetensors"
    path.write_bytes(content)
    with pytest.raises(SemError, match="not usable safetensors"):
        linear_models.read_linear_model(path)


def test_numbers_that_are_none_are_refused(tmp_path) -> None:
    samples = texts(60)
    model = fitted(samples)
    model.weights[0, 0] = np.nan
    path = linear_models.write_linear_model(tmp_path / "a.safetensors", model, samples)
    with pytest.raises(SemError, match="weights: not every number is finite"):
        linear_models.read_linear_model(path)
