"""A signature says who let a package out, and that no byte of it is another."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import hostilecontents
import hostilepackages
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from paths import ROOT
from signers import write_certificate, write_keys, write_rsa_keys

from sem.core import files, run
from sem.core.errors import SemError
from sem.package.publish import signature
from sem.package.verify import verify

CASES = hostilepackages.CASES | hostilecontents.CASES
UNTELLABLE = [name for name, case in CASES.items() if case.words is None]


@pytest.fixture(scope="session")
def keys(tmp_path_factory):
    return write_keys(tmp_path_factory.mktemp("keys"))


@pytest.fixture(scope="session")
def signed_master(tmp_path_factory, package_master, keys):
    folder = tmp_path_factory.mktemp("signed") / package_master.name
    shutil.copytree(package_master, folder)
    signature.sign_package(folder, keys[0])
    return folder


@pytest.fixture
def signed(tmp_path, signed_master):
    return shutil.copytree(signed_master, tmp_path / "signed" / signed_master.name)


def test_a_signed_package_is_what_its_signer_signed_and_still_verifies(signed, keys):
    assert signature.signature_faults(signed, keys[1]) == []
    assert verify.package_faults(signed) == []


def test_a_signed_package_may_be_moved_and_signed_again(signed, tmp_path, keys):
    moved = Path(shutil.move(signed, tmp_path / "elsewhere"))
    assert signature.signature_faults(moved, keys[1]) == []

    signature.sign_package(moved, keys[0])
    assert signature.signature_faults(moved, keys[1]) == []


@pytest.mark.parametrize("curve", [ec.SECP384R1(), ec.SECP521R1()], ids=["P-384", "P-521"])
def test_other_curves_sign_as_well(package, tmp_path, curve):
    key, public = write_keys(tmp_path, curve=curve)
    signature.sign_package(package, key)

    assert signature.signature_faults(package, public) == []


def test_a_certificate_stands_for_its_key(signed, tmp_path, keys):
    other = write_keys(tmp_path, "other")[0]
    certificate = write_certificate(keys[0], tmp_path / "release.pem")
    strange = write_certificate(other, tmp_path / "other.pem")

    assert signature.signature_faults(signed, certificate) == []
    assert signature.signature_faults(signed, strange) == [
        "model.sig: not signed with the key of other.pem, or changed since"
    ]


def change_signature(**keys):
    """Change keys of the bundle; `a__b` is the key b of a."""

    def change(folder: Path) -> None:
        bundle = json.loads((folder / "model.sig").read_text("utf-8"))
        for key, value in keys.items():
            place, *path = bundle, *key.split("__")
            for step in path[:-1]:
                place = place[int(step) if step.isdigit() else step]
            place[path[-1]] = value
        (folder / "model.sig").write_text(json.dumps(bundle), "utf-8")

    return change


def flip_byte(folder: Path) -> None:
    content = bytearray((folder / "model/model.safetensors").read_bytes())
    content[-1] ^= 1
    (folder / "model/model.safetensors").write_bytes(content)


def cut_signature(folder: Path) -> None:
    (folder / "model.sig").write_bytes((folder / "model.sig").read_bytes()[:700])


NOT_READ = "model.sig: cannot be read as a signature"
NOT_SIGNED = "model.sig: not signed with the key of release.pub, or changed since"
FAULTS = {
    "a changed byte": (flip_byte, "model/model.safetensors: not the file that was signed"),
    "an extra file": (
        lambda folder: files.write_file(folder / "model" / "more.json", "{}"),
        "model/more.json: was not signed",
    ),
    # Git's own files are left out of a signature by the library's default.
    "an extra file of git": (
        lambda folder: files.write_file(folder / ".gitattributes", "x"),
        ".gitattributes: a kind of file no package holds",
    ),
    "a missing file": (
        lambda folder: (folder / "README.md").unlink(),
        "README.md: missing, it was signed",
    ),
    "no signature": (lambda folder: (folder / "model.sig").unlink(), "model.sig: missing"),
    "a truncated signature": (cut_signature, NOT_READ),
    "an empty signature": (lambda folder: (folder / "model.sig").write_bytes(b""), NOT_READ),
    "a signature that is a list": (
        lambda folder: (folder / "model.sig").write_bytes(b"[]"),
        NOT_READ,
    ),
    "a signature that nests": (
        lambda folder: (folder / "model.sig").write_bytes(b"[" * 200_000),
        NOT_READ,
    ),
    "a signature of a gigabyte": (
        lambda folder: os.truncate(folder / "model.sig", 1 << 30),
        "model.sig: a kind of file",
    ),
    "another statement": (change_signature(dsseEnvelope__payload="e30="), NOT_SIGNED),
    "another media type": (change_signature(mediaType="x"), NOT_READ),
    "no signature in the bundle": (change_signature(dsseEnvelope__signatures=[]), NOT_READ),
}


@pytest.mark.parametrize("name", FAULTS)
def test_what_was_changed_after_signing_is_one_named_fault(signed, keys, name):
    change, words = FAULTS[name]
    change(signed)

    faults = signature.signature_faults(signed, keys[1])

    assert len(faults) == 1, faults
    assert faults[0].startswith(words)


def test_a_link_is_refused_before_anything_is_read(signed, keys):
    (signed / "README.md").unlink()
    (signed / "README.md").symlink_to("/etc/passwd")

    with pytest.raises(SemError, match="a link"):
        signature.signature_faults(signed, keys[1])


def test_another_key_is_named(signed, tmp_path):
    stranger = write_keys(tmp_path, "stranger")[1]

    assert signature.signature_faults(signed, stranger) == [
        "model.sig: not signed with the key of stranger.pub, or changed since"
    ]


def test_a_key_that_claims_to_be_another_is_named(signed, tmp_path, keys):
    # The bundle names a hash of its key: whoever forges a signature writes the victim's there.
    stranger = write_keys(tmp_path, "stranger")
    hint = json.loads((signed / "model.sig").read_text("utf-8"))["verificationMaterial"]
    (signed / "model.sig").unlink()
    signature.sign_package(signed, stranger[0])
    change_signature(verificationMaterial__publicKey=hint["publicKey"])(signed)

    assert signature.signature_faults(signed, keys[1]) == [NOT_SIGNED]


def test_a_signature_of_another_package_is_named(signed, package, tmp_path, keys):
    shutil.copytree(package, tmp_path / "other")
    hostilepackages.json_keys("run.json", run_id="another")(tmp_path / "other")
    hostilepackages.seal(tmp_path / "other", knowing=False)
    shutil.copyfile(signed / "model.sig", tmp_path / "other" / "model.sig")

    assert signature.signature_faults(tmp_path / "other", keys[1]) == [
        f"model.sig: signs another package, {signed.name!r}"
    ]


# Nothing else in a package follows from what these change: verify alone accepts them.
@pytest.mark.parametrize("name", UNTELLABLE)
def test_what_only_a_signature_can_tell_it_tells(signed, keys, name):
    assert len(UNTELLABLE) >= 8
    CASES[name].plant(signed)

    faults = signature.signature_faults(signed, keys[1])

    assert any("not the file that was signed" in line or "another" in line for line in faults)


def test_a_package_with_faults_and_a_tainted_one_are_not_signed(package, keys):
    shutil.copytree(package, package.with_name("tainted"))
    run.mark_tainted(package.with_name("tainted"), "t1", "2026-01-01T00:00:00+00:00", {})
    flip_byte(package)

    with pytest.raises(SemError, match="not signed, it has 1 faults"):
        signature.sign_package(package, keys[0])
    with pytest.raises(SemError, match="is tainted"):
        signature.sign_package(package.with_name("tainted"), keys[0])
    assert not list(package.parent.glob("*/model.sig"))


def test_a_key_that_others_can_read_is_refused(package, tmp_path):
    key = write_keys(tmp_path)[0]
    key.chmod(0o640)

    with pytest.raises(SemError, match=r"others than its owner .* \(mode 640\)") as caught:
        signature.sign_package(package, key)

    assert f"chmod 600 {key}" in caught.value.hint


def test_keys_that_cannot_sign_are_one_line_without_their_content(package, signed, tmp_path):
    rsa = write_rsa_keys(tmp_path)
    text = files.write_file(tmp_path / "text.key", "SECRET")
    text.chmod(0o600)

    for key, words in ((rsa[0], "P-256"), (text, "P-256"), (tmp_path / "none", "no such file")):
        with pytest.raises(SemError, match=words) as caught:
            signature.sign_package(package, key)
        assert "SECRET" not in str(caught.value)
    with pytest.raises(SemError, match="no key of the curves"):
        signature.signature_faults(signed, rsa[1])


def test_a_private_key_is_no_signer(signed, keys):
    with pytest.raises(SemError, match="neither a public key nor a certificate"):
        signature.signature_faults(signed, keys[0])


def test_an_encrypted_key_is_opened_with_the_password_of_the_environment(
    package, tmp_path, monkeypatch
):
    key, public = write_keys(tmp_path, password=b"long enough")
    with pytest.raises(SemError, match=r"is encrypted, and \$SEM_KEY_PASSWORD is not set"):
        signature.sign_package(package, key)
    monkeypatch.setenv("SEM_KEY_PASSWORD", "wrong")
    with pytest.raises(SemError, match=r"with this \$SEM_KEY_PASSWORD"):
        signature.sign_package(package, key)
    monkeypatch.setenv("SEM_KEY_PASSWORD", "long enough")
    signature.sign_package(package, key)

    assert signature.signature_faults(package, public) == []


def run_script(name: str, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-P", str(ROOT / "scripts" / f"package_{name}.py"), *words],
        capture_output=True,
        text=True,
        timeout=120,
        env={**os.environ, "PYTHONPATH": str(ROOT / "scripts")},
    )


def test_the_jobs_sign_and_verify_and_say_nothing_of_the_key(package, tmp_path):
    key, public = write_keys(tmp_path)
    where = ("--path", str(package))

    signed = run_script("sign", *where, "--key", str(key))
    good = run_script("verify", *where, "--signed-by", str(public))
    flip_byte(package)
    bad = run_script("verify", *where, "--signed-by", str(public))

    assert (signed.returncode, good.returncode, bad.returncode) == (0, 0, 1)
    assert "is signed by the holder of" in good.stdout
    assert "model/model.safetensors: not the file that was signed" in bad.stderr
    secret = key.read_text("utf-8").splitlines()[1]
    assert secret not in signed.stdout + signed.stderr
