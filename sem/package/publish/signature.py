"""The signature of a package: OpenSSF model signing with an elliptic-curve key, offline.

    signature.sign_package(folder, Path("release.key"))
    signature.signature_faults(folder, Path("release.pub"))

`model.sig` lies beside the manifest and signs every other file, the manifest included. It tells
what nothing in a package can: other weights of the same shape, a proof that was forged throughout.
"""

import base64
import json
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sem.core import files
from sem.core.errors import SemError
from sem.package.verify import verify
from sem.package.verify.verify import SIGNATURE

PASSWORD = "SEM_KEY_PASSWORD"  # noqa: S105 - the name of a variable
# Permissions of a key that somebody else could use.
OTHERS = 0o077
MAX_KEY_BYTES = 100_000
MAX_LINES = 20
NEW_KEY = (
    "make one with `openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out FILE`"
)
# How model-signing begins its error about files that are not those it has a statement of.
MISMATCH = "Signature mismatch"
KEY_MISMATCH = "Key mismatch"


def sign_package(folder: Path, key: Path) -> Path:
    """Sign the package in `folder` with the private key in `key`, and return its signature.

    An encrypted key is opened with $SEM_KEY_PASSWORD. Raise SemError for a package that does not
    verify, and for a key that others can read or that signs nothing here.
    """
    from model_signing import signing

    _check_key(key)
    _refuse_others(key)
    faults = verify.package_faults(folder)
    if faults:
        raise SemError(
            f"{folder}: not signed, it has {len(faults)} faults: {faults[0]}",
            "export it again, or see all of them with `fab package.verify`",
        )
    password: Any = os.environ.get(PASSWORD, "").encode() or None
    try:
        config = signing.Config().use_elliptic_key_signer(private_key=key, password=password)
    # Not the library's message: it is about the content of a private key.
    except TypeError as error:
        state = "is not encrypted" if password else f"is encrypted, and ${PASSWORD} is not set"
        raise SemError(
            f"{key}: the private key {state}",
            f"set {PASSWORD} for an encrypted key, and only for one",
        ) from error
    except (ValueError, AttributeError) as error:
        reason = f" with this ${PASSWORD}" if password else ""
        raise SemError(
            f"{key}: no private key of the curves P-256, P-384 or P-521 in PEM{reason}", NEW_KEY
        ) from error
    with tempfile.TemporaryDirectory() as scratch:
        unplaced = Path(scratch) / SIGNATURE
        config.set_hashing_config(_hashing()).sign(folder, unplaced)
        return files.write_file(folder / SIGNATURE, unplaced.read_bytes())


def signature_faults(folder: Path, signer: Path) -> list[str]:
    """Return why the package in `folder` is not what the holder of `signer` signed, a line each.

    `signer`: a public key, or a certificate, whose key alone counts, in PEM. Files are hashed and
    nothing in them is parsed, so this comes before `package_faults`. Raise SemError for a link,
    and for a signer that cannot be used.
    """
    from model_signing import verifying

    faults = verify.tree_faults(folder)
    if faults:
        return faults
    if not (folder / SIGNATURE).is_file():
        return [f"{SIGNATURE}: missing, the package is not signed"]
    with _public_key(signer) as key:
        config = verifying.Config().use_elliptic_key_verifier(public_key=key)
        try:
            config.set_hashing_config(_hashing()).verify(folder, folder / SIGNATURE)
        except Exception as error:  # hostile signatures break the reader in ways of their own
            reason = _refusal(error, signer)
            return [reason] if reason else _differences(folder) or [f"{SIGNATURE}: {MISMATCH}"]
    # A key's holder may have signed with other tools, which can leave files out.
    return _differences(folder)


def check_signature(folder: Path, signer: Path) -> None:
    """Raise SemError that names each fault unless `signer` signed the package in `folder`."""
    faults = signature_faults(folder, signer)
    if faults:
        raise SemError(
            f"{folder}: {len(faults)} faults:\n       " + "\n       ".join(faults[:MAX_LINES]),
            f"do not use it: get it again from whoever holds the key of {signer}",
        )


def _hashing() -> Any:
    from model_signing import hashing

    # Git's own files are no exception: no package holds one.
    return hashing.Config().set_ignored_paths(paths=[SIGNATURE], ignore_git_paths=False)


def _refusal(error: Exception, signer: Path) -> str | None:
    """Return what is wrong with the signature itself; None when it is of other files."""
    from cryptography.exceptions import InvalidSignature

    text = str(error)
    if isinstance(error, InvalidSignature) or text.startswith(KEY_MISMATCH):
        return f"{SIGNATURE}: not signed with the key of {signer.name}, or changed since"
    if isinstance(error, ValueError) and text.startswith(MISMATCH):
        return None
    return f"{SIGNATURE}: cannot be read as a signature: {type(error).__name__}"


def _differences(folder: Path) -> list[str]:
    """Return how the files of `folder` differ from those that its checked signature names."""
    bundle = json.loads((folder / SIGNATURE).read_text("utf-8"))
    statement = json.loads(base64.b64decode(bundle["dsseEnvelope"]["payload"]))
    signed = {entry["name"]: entry["digest"] for entry in statement["predicate"]["resources"]}
    own = {
        path.relative_to(folder).as_posix(): files.sha256_file(path)
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path != folder / SIGNATURE
    }
    changed = sorted(name for name in signed.keys() & own.keys() if signed[name] != own[name])
    if {"run.json", "manifest.json"} <= set(changed):
        name = str(statement["subject"][0]["name"])
        shown = "".join(c for c in name if c.isprintable())[:80]
        return [f"{SIGNATURE}: signs another package, {shown!r}"]
    return [
        *(f"{name}: not the file that was signed" for name in changed),
        *(f"{name}: missing, it was signed" for name in sorted(signed.keys() - own.keys())),
        *(f"{name}: was not signed" for name in sorted(own.keys() - signed.keys())),
    ]


def _check_key(path: Path) -> None:
    if not path.exists():
        raise SemError(f"{path}: no such file", "name the file of a key in PEM")
    files.check_regular(path)
    if path.stat().st_size > MAX_KEY_BYTES:
        raise SemError(f"{path}: larger than any key", "name the file of a key in PEM")


def _refuse_others(key: Path) -> None:
    """Raise SemError for a private key that somebody else can read."""
    mode = key.stat().st_mode
    if hasattr(os, "getuid") and mode & OTHERS:
        raise SemError(
            f"{key}: others than its owner can use this private key (mode {mode & 0o777:o})",
            f"if nobody did: chmod 600 {key}",
        )


@contextmanager
def _public_key(signer: Path) -> Iterator[Path]:
    """Yield a file that holds the public key in `signer`, of a certificate its own."""
    from cryptography import x509
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    _check_key(signer)
    pem = signer.read_bytes()
    try:
        if b"BEGIN CERTIFICATE" in pem:
            key = x509.load_pem_x509_certificate(pem).public_key()
        else:
            key = serialization.load_pem_public_key(pem)  # type: ignore[assignment]
    except ValueError as error:
        raise SemError(
            f"{signer}: neither a public key nor a certificate in PEM",
            f"write the public key with `openssl pkey -in KEY -pubout -out {signer.name}`",
        ) from error
    if not isinstance(key, ec.EllipticCurvePublicKey) or key.curve.key_size not in (256, 384, 521):
        raise SemError(f"{signer}: no key of the curves P-256, P-384 or P-521", NEW_KEY)
    with tempfile.TemporaryDirectory() as scratch:
        path = Path(scratch) / "signer.pub"
        form = serialization.PublicFormat.SubjectPublicKeyInfo
        path.write_bytes(key.public_bytes(serialization.Encoding.PEM, form))
        yield path
