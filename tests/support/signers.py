"""Keys that sign packages, and a package whose gate passed."""

import datetime
from pathlib import Path
from typing import Any

import hostilepackages
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from sem.core import files, jsonio, manifest


def write_keys(
    folder: Path, name: str = "release", curve: Any = None, password: bytes | None = None
) -> tuple[Path, Path]:
    """Write NAME.key and NAME.pub below `folder`, as openssl does; their paths."""
    return write_pair(folder, name, ec.generate_private_key(curve or ec.SECP256R1()), password)


def write_rsa_keys(folder: Path) -> tuple[Path, Path]:
    """Write a pair of keys that no package is signed with."""
    return write_pair(folder, "rsa", rsa.generate_private_key(65537, 2048), None)


def write_pair(folder: Path, name: str, key: Any, password: bytes | None) -> tuple[Path, Path]:
    secret: Any = serialization.NoEncryption()
    if password:
        secret = serialization.BestAvailableEncryption(password)
    form, pem = serialization.PrivateFormat.PKCS8, serialization.Encoding.PEM
    private = files.write_file(folder / f"{name}.key", key.private_bytes(pem, form, secret))
    private.chmod(0o600)
    public = key.public_key().public_bytes(pem, serialization.PublicFormat.SubjectPublicKeyInfo)
    return private, files.write_file(folder / f"{name}.pub", public)


def write_certificate(key: Path, path: Path) -> Path:
    """Write a certificate of the private key in `key` to `path`."""
    private: Any = serialization.load_pem_private_key(key.read_bytes(), None)
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "release")])
    now = datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC)
    builder = x509.CertificateBuilder(
        name, name, private.public_key(), 1, now, now + datetime.timedelta(days=30)
    )
    signed = builder.sign(private, hashes.SHA256())
    return files.write_file(path, signed.public_bytes(serialization.Encoding.PEM))


def pass_gate(folder: Path, verdict: str = "PASS") -> Path:
    """Put a verdict of the gate into the package in `folder`, as an export after it does."""
    facts = manifest.read_manifest(folder)
    gate = {"format": "gate.v1", "sem": facts["sem"], "run": facts["run_id"], "split": "test"}
    files.write_file(folder / "gate.json", jsonio.pretty_json({**gate, "verdict": verdict}))
    hostilepackages.seal(folder, knowing=True)
    return folder
