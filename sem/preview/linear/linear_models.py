"""A preview's linear model as one safetensors file: numbers and words, nothing that can run.

A file that could run code when it is opened (pickle, joblib, PyTorch) is refused by its first
bytes before anything else looks at it, whatever its name.
"""

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sem.core import files, jsonio
from sem.core.errors import SemError
from sem.preview.contribution.contribution import Sample
from sem.preview.contribution.encoders import Encoder, NumberEncoder, WordEncoder
from sem.preview.linear.learners import Model

if TYPE_CHECKING:
    import numpy as np

FORMAT = "sem-preview-linear.v1"
MOST_BYTES = 2**30
HINT = "give a file that --save-model wrote"
# First bytes -> what it is.
CODE = {
    b"\x80": "a pickle",
    b"(": "a pickle",
    b"c": "a pickle",
    b"PK\x03\x04": "a PyTorch or zip archive",
    b"\x1f\x8b": "a compressed pickle",
    b"\x78": "a compressed pickle",
    b"BZh": "a compressed pickle",
    b"\xfd7zXZ": "a compressed pickle",
    b"\x04\x22\x4d\x18": "a compressed pickle",
    b"\x89HDF": "a Keras archive",
}
ARRAYS = {"text": ("rarity",), "table": ("medians", "means", "spreads")}


def rows_hash(samples: Sequence[Sample]) -> str:
    """Return what names the rows that a model has learnt from, whatever their order."""
    return files.sha256_json(sorted([sample.label, sample.content()] for sample in samples))


def write_linear_model(path: Path, model: Model, samples: Sequence[Sample]) -> Path:
    """Return `model`, which has learnt from `samples`, as the file `path`.

    The same model, the same bytes.
    """
    return files.write_file(path, linear_model_bytes(model, rows_hash(samples)))


def linear_model_bytes(model: Model, rows_sha256: str) -> bytes:
    """Return the file of `model`, which has learnt from what `rows_sha256` names."""
    import numpy as np
    from safetensors.numpy import save

    encoder = model.encoder
    tensors = {name: getattr(encoder, name) for name in ARRAYS[model.kind]}
    if model.weights is not None:
        tensors |= {"weights": model.weights, "biases": model.biases}
    # save() writes memory as it lies, and scikit-learn's weights lie turned.
    tensors = {name: np.ascontiguousarray(tensor) for name, tensor in sorted(tensors.items())}
    header = {
        "format": FORMAT,
        "kind": model.kind,
        "classes": list(model.classes),
        "terms": list(encoder.terms) if isinstance(encoder, WordEncoder) else [],
        "converged": model.converged,
        "learnt_sha256": rows_sha256,
    }
    header["sha256"] = _digest(header, tensors)
    return save(tensors, {"sem": jsonio.canonical_json(header)})


def _digest(header: dict[str, Any], tensors: "dict[str, np.ndarray[Any, Any]]") -> str:
    """Return the hash of all that a file holds."""
    parts = {name: hashlib.sha256(tensor).hexdigest() for name, tensor in sorted(tensors.items())}
    return files.sha256_json([{**header, "sha256": None}, parts])


def read_linear_model(path: Path) -> tuple[Model, str]:
    """Return the model in `path` and what names the rows it learnt from.

    Raise SemError for anything else.
    """
    refuse_code(path)
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="numpy") as file:
            header = jsonio.parse_json((file.metadata() or {}).get("sem", "null"))
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, ValueError, OSError, MemoryError) as error:
        raise SemError(f"{path}: not usable safetensors: {error}", HINT) from error
    if not isinstance(header, dict) or header.get("format") != FORMAT:
        raise SemError(f"{path}: holds no {FORMAT}", HINT)
    wrong = _wrong(header, tensors)
    # Files that are older than the hash have none.
    if not wrong and "sha256" in header and header["sha256"] != _digest(header, tensors):
        wrong = "damaged: not what --save-model wrote"
    if wrong:
        raise SemError(f"{path}: {wrong}", HINT)
    return _model(header, tensors), str(header["learnt_sha256"])


def refuse_code(path: Path, hint: str = HINT) -> None:
    """Raise SemError when `path` is not a plain file of a usable size, or could run code when
    opened.
    """
    if path.is_dir():
        raise SemError(
            f"{path}: a folder: a package answers prompts and does not predict classes", hint
        )
    if not path.is_file():
        raise SemError(f"{path}: no such file", hint)
    if path.stat().st_size > MOST_BYTES:
        raise SemError(f"{path}: larger than {MOST_BYTES // 2**20:,} MiB", hint)
    with path.open("rb") as file:
        first = file.read(9)
    # The ninth byte of safetensors opens its JSON header; the eight before it may be any number.
    if first[8:9] == b"{":
        return
    kind = next((what for start, what in CODE.items() if first.startswith(start)), None)
    if kind:
        raise SemError(f"{path}: {kind}, which can run code when it is opened; refused", hint)


def _wrong(header: dict[str, Any], tensors: "dict[str, np.ndarray[Any, Any]]") -> str | None:
    """Return what keeps `header` and `tensors` from being a model."""
    import numpy as np

    kind, classes, terms = (header.get(name) for name in ("kind", "classes", "terms"))
    if kind not in ARRAYS or not _are_words(classes) or not _are_words(terms):
        return "kind, classes or terms are none"
    # none: a number is said.
    several = len(classes) != 1
    tensor_names = {*ARRAYS[kind], *(("weights", "biases") if several else ())}
    if set(tensors) != tensor_names:
        return f"holds {sorted(tensors)}, not {sorted(tensor_names)}"
    width = len(terms) if kind == "text" else tensors["medians"].size
    shapes = dict.fromkeys(ARRAYS[kind], (width,))
    if several:
        heads = max(1, len(classes))
        shapes |= {"weights": (heads, width), "biases": (heads,)}
    for name, tensor in tensors.items():
        if tensor.shape != shapes[name] or tensor.dtype != np.float64:
            return f"{name}: {tensor.shape} of {tensor.dtype}, not {shapes[name]} of float64"
        if not np.isfinite(tensor).all():
            return f"{name}: not every number is finite"
    return None


def _are_words(value: Any) -> bool:
    """Return whether `value` is a list of different texts."""
    is_list = isinstance(value, list) and all(isinstance(word, str) for word in value)
    return is_list and len(set(value)) == len(value)


def _model(header: dict[str, Any], tensors: dict[str, Any]) -> Model:
    encoder: Encoder
    if header["kind"] == "text":
        encoder = WordEncoder(tuple(header["terms"]), tensors["rarity"])
    else:
        encoder = NumberEncoder(*(tensors[name] for name in ARRAYS["table"]))
    weights, biases = tensors.get("weights"), tensors.get("biases")
    converged = header.get("converged", True) is True
    return Model(header["kind"], encoder, tuple(header["classes"]), weights, biases, converged)
