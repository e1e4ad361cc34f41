"""What is published comes back whole, or not at all: from a folder, a bucket, and the hub."""

import json
import os
import resource
import shutil
import subprocess
import sys
import time
from pathlib import Path

import hostilepackages
import pytest
from hubserver import HubServer
from paths import ROOT
from s3server import S3Server
from signers import pass_gate, write_keys

from sem.core import files, manifest, provenance, run
from sem.core.errors import SemError
from sem.package.publish import places, publish, signature
from sem.package.verify import verify

NOW = provenance.utc_now()


@pytest.fixture(scope="session")
def gated_master(tmp_path_factory, package_master):
    folder = tmp_path_factory.mktemp("gated") / package_master.name
    return pass_gate(shutil.copytree(package_master, folder))


@pytest.fixture
def gated(tmp_path, gated_master):
    """A package whose gate passed."""
    return shutil.copytree(gated_master, tmp_path / "gated" / gated_master.name)


@pytest.fixture(scope="session")
def published_master(tmp_path_factory, gated_master):
    folder = tmp_path_factory.mktemp("published")
    publish_gated(gated_master, places.open_place(str(folder), None))
    return folder


@pytest.fixture
def published(tmp_path, published_master):
    """A folder in which the package of `gated` is published, and the place that it is."""
    folder = shutil.copytree(published_master, tmp_path / "place")
    return folder, places.open_place(str(folder), None)


@pytest.fixture
def bucket(monkeypatch):
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "id-of-a-test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret-of-a-test")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-central-1")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    with S3Server("models") as store:
        yield store


@pytest.fixture
def hub(monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "hf_token_of_a_test")
    # As every script sets it.
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with HubServer() as server:
        monkeypatch.setenv("HF_ENDPOINT", server.url)
        yield server


@pytest.fixture(params=["folder", "bucket", "hub"])
def place(request, tmp_path):
    """Each kind of place."""
    if request.param == "folder":
        return places.open_place(str(tmp_path / "place"), None)
    server = request.getfixturevalue(request.param)
    if request.param == "bucket":
        return places.open_place("s3://models/experts", server.url)
    return places.open_place("hf://org/expert", None)


def contents(folder: Path) -> dict[str, bytes]:
    paths = [path for path in folder.rglob("*") if path.is_file()]
    return {str(path.relative_to(folder)): path.read_bytes() for path in paths}


def publish_gated(folder: Path, place: places.Place) -> str:
    return publish.publish_package(folder, place, None, None, NOW)


def test_a_package_comes_back_byte_for_byte_with_its_signature(gated, place, tmp_path):
    key, public = write_keys(tmp_path)
    signature.sign_package(gated, key)

    address = publish.publish_package(gated, place, public, None, NOW)
    fetched = publish.fetch_package(place, None, tmp_path / "back", public)

    assert gated.name in address or place.address in address
    assert fetched == tmp_path / "back" / gated.name
    assert contents(fetched) == contents(gated)
    # Nothing stays beside it but the lock.
    assert [path.name for path in fetched.parent.iterdir() if path.is_dir()] == [gated.name]


def test_publishing_and_fetching_again_change_nothing(gated, place, tmp_path):
    publish_gated(gated, place)
    first = publish.fetch_package(place, gated.name, tmp_path / "back", None)

    publish_gated(gated, place)

    assert publish.fetch_package(place, gated.name, tmp_path / "back", None) == first


def test_a_package_that_does_not_verify_or_passed_no_gate_is_not_published(
    package, gated, place, tmp_path
):
    files.write_file(gated / "README.md", "another card")
    with pytest.raises(SemError, match="not published: 1 faults"):
        publish_gated(gated, place)
    with pytest.raises(SemError, match="it holds no verdict of the gate"):
        publish_gated(package, place)
    failed = pass_gate(shutil.copytree(package, tmp_path / "failed" / package.name), "FAIL")
    with pytest.raises(SemError, match="its gate says FAIL"):
        publish_gated(failed, place)
    with pytest.raises(SemError, match="no package|Repository Not Found|404"):
        publish.fetch_package(place, None, tmp_path / "back", None)


def test_a_package_that_must_be_signed_is_not_published_without_it(gated, place, tmp_path):
    public = write_keys(tmp_path)[1]

    with pytest.raises(SemError, match="the package is not signed"):
        publish.publish_package(gated, place, public, None, NOW)


def test_an_unsigned_package_is_not_fetched_where_a_signature_is_asked_for(gated, place, tmp_path):
    publish_gated(gated, place)

    with pytest.raises(SemError, match="the package is not signed"):
        publish.fetch_package(place, None, tmp_path / "back", write_keys(tmp_path)[1])
    assert not (tmp_path / "back" / gated.name).exists()


def test_a_reason_is_written_down_where_the_package_is(package, tmp_path, hub):
    folder = places.open_place(str(tmp_path / "place"), None)
    repository = places.open_place("hf://org/expert", None)

    for place in (folder, repository):
        publish.publish_package(package, place, None, "the owner wants it", NOW)

    listing = json.loads((tmp_path / f"place/packages/{package.name}.json").read_text("utf-8"))
    assert (listing["gate"], listing["reason"]) == (None, "the owner wants it")
    message = hub.repositories["models/org/expert"].messages[-1]
    assert '"reason":"the owner wants it"' in message["description"]


# Stores of objects: files under their hashes, the listing last.


def test_the_listing_comes_last_and_files_are_not_sent_twice(gated, bucket):
    place = places.open_place("s3://models/experts", bucket.url)
    publish_gated(gated, place)

    puts = [key for method, key in bucket.asked if method == "PUT"]
    assert puts[-1] == f"models/experts/packages/{gated.name}.json"
    assert all(key.startswith("models/experts/files/") for key in puts[:-1])
    bucket.asked.clear()
    publish_gated(gated, place)
    assert [key for method, key in bucket.asked if method == "PUT"] == puts[-1:]


def test_a_cut_line_is_one_clear_line_and_the_next_start_goes_on(gated, bucket, tmp_path):
    place = places.open_place("s3://models", bucket.url)
    seen = []

    def cut_later(method: str, key: str) -> str | None:
        seen.append(key)
        return "cut" if len(seen) > 20 else None

    bucket.before = cut_later
    with pytest.raises(SemError, match=r"s3://models: .*(closed|Connection|endpoint)") as caught:
        publish_gated(gated, place)
    assert "what was sent is not sent twice" in caught.value.hint
    assert not any("/packages/" in key for key in bucket.objects)
    there = len(bucket.objects)
    bucket.before = lambda method, key: None
    bucket.asked.clear()
    publish_gated(gated, place)

    sent = [key for method, key in bucket.asked if method == "PUT" and "/files/" in key]
    assert there + len(sent) == len({*bucket.objects}) - 1
    assert publish.fetch_package(place, None, tmp_path / "back", None)


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        ((403, "AccessDenied"), "AccessDenied|403|Forbidden"),
        ((507, "InsufficientStorage"), "InsufficientStorage|507"),
    ],
)
def test_a_store_that_refuses_is_one_clear_line(gated, bucket, answer, words):
    bucket.before = lambda method, key: answer if method == "PUT" else None

    with pytest.raises(SemError, match=words) as caught:
        publish_gated(gated, places.open_place("s3://models", bucket.url))

    assert "secret-of-a-test" not in str(caught.value)
    assert not bucket.objects


def test_a_bucket_that_is_not_there_and_one_without_credentials_are_named(
    gated, bucket, monkeypatch, tmp_path
):
    with pytest.raises(SemError, match="s3://other: .*(NoSuchBucket|404)"):
        publish_gated(gated, places.open_place("s3://other", bucket.url))
    with pytest.raises(SemError, match="s3://models: .*[Ii]nvalid endpoint"):
        publish_gated(gated, places.open_place("s3://models", "nonsense"))
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    with pytest.raises(SemError, match="[Cc]redentials"):
        publish_gated(gated, places.open_place("s3://models", bucket.url))


def test_a_file_that_is_too_large_for_one_request_goes_in_parts(gated, bucket, monkeypatch):
    monkeypatch.setattr(places, "MAX_SINGLE_PUT", 100_000)
    content = os.urandom(9 << 20)
    path = files.write_file(gated.parent / "large", content)
    store = places.S3Store("models", "", bucket.url)

    store.write_path("files/x", path, files.sha256_file(path))

    assert bucket.objects["models/files/x"] == content
    assert ("POST", "models/files/x") in bucket.asked


def test_a_list_of_many_packages_is_read_to_its_end(gated, bucket):
    place = places.open_place("s3://models", bucket.url)
    publish_gated(gated, place)
    listing = bucket.objects[f"models/packages/{gated.name}.json"]
    for number in range(5):
        name = f"20200101-00000{number}-abcd"
        other = listing.replace(gated.name.encode(), name.encode())
        bucket.objects[f"models/packages/{name}.json"] = other
    bucket.page = 2

    assert place.read_listing(None).run_id == gated.name
    with pytest.raises(SemError, match="no package of run '2019'"):
        place.read_listing("2019")


# Hostile places.


def listing_of(gated: Path, store: Path) -> tuple[Path, dict]:
    path = store / "packages" / f"{gated.name}.json"
    return path, json.loads(path.read_text("utf-8"))


HOSTILE = {
    "a path out of the package": lambda entries: entries.update({"../../x.json": ENTRY}),
    "an absolute path": lambda entries: entries.update({"/tmp/x.json": ENTRY}),
    "a path of Windows": lambda entries: entries.update({"model\\x.json": ENTRY}),
    "an empty name": lambda entries: entries.update({"": ENTRY}),
    "a dot": lambda entries: entries.update({"model/./x.json": ENTRY}),
    "a control character": lambda entries: entries.update({"model/\x1b[2J.json": ENTRY}),
    "a file that is a folder": lambda entries: entries.update({"README.md/x.json": ENTRY}),
    "a hash that is a path": lambda entries: entries.update(
        {"x.json": {"bytes": 1, "sha256": "../../../etc/passwd"}}
    ),
    "a negative size": lambda entries: entries.update({"x.json": ENTRY | {"bytes": -1}}),
    "a size of no number": lambda entries: entries.update({"x.json": ENTRY | {"bytes": "1"}}),
    "too many files": lambda entries: entries.update(
        {f"model/{number}.json": ENTRY for number in range(2_000)}
    ),
}
ENTRY = {"bytes": 1, "sha256": "0" * 64}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_listing_writes_nothing(gated, published, tmp_path, name):
    folder, place = published
    path, listing = listing_of(gated, folder)
    HOSTILE[name](listing["files"])
    path.write_text(json.dumps(listing), "utf-8")

    with pytest.raises(SemError, match="not a listing of a package"):
        publish.fetch_package(place, None, tmp_path / "back", None)
    assert not (tmp_path / "back").exists()


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"\xff\xfe", "not a listing"),
        (b"[" * 900_000, "not a listing"),
        (b'{"a": 1, "a": 2}', "not a listing"),
        (b" " * 2_000_000, "longer than its listing says"),
        (b"{}", "not a listing"),
    ],
)
def test_a_listing_that_is_none_is_one_clear_line(gated, published, tmp_path, content, words):
    folder, place = published
    listing_of(gated, folder)[0].write_bytes(content)

    with pytest.raises(SemError, match=words):
        publish.fetch_package(place, None, tmp_path / "back", None)


def test_a_listing_under_another_name_is_refused(gated, published, tmp_path):
    folder, place = published
    path = listing_of(gated, folder)[0]
    path.rename(path.with_name("20990101-000000-abcd.json"))

    with pytest.raises(SemError, match=f"lists run {gated.name}"):
        publish.fetch_package(place, None, tmp_path / "back", None)


def test_other_bytes_under_a_hash_are_not_taken(gated, published, tmp_path):
    folder, place = published
    digest = manifest.read_manifest(gated)["files"]["README.md"]["sha256"]
    stored = folder / "files" / digest
    stored.write_bytes(b"x" * stored.stat().st_size)

    with pytest.raises(SemError, match=r"README\.md is not the file that the listing names"):
        publish.fetch_package(place, None, tmp_path / "back", None)
    stored.write_bytes(b"x" * (stored.stat().st_size + 1))
    with pytest.raises(SemError, match="longer than its listing says"):
        publish.fetch_package(place, None, tmp_path / "back", None)
    stored.unlink()
    with pytest.raises(SemError, match="not there"):
        publish.fetch_package(place, None, tmp_path / "back", None)
    assert not (tmp_path / "back" / gated.name).exists()


def test_a_published_package_that_does_not_verify_leaves_nothing(gated, tmp_path, monkeypatch):
    place = places.open_place(str(tmp_path / "place"), None)
    files.write_file(gated / "README.md", "another card")
    hostilepackages.seal(gated, knowing=False)
    with monkeypatch.context() as patch:
        patch.setattr(verify, "package_faults", lambda folder: [])
        publish_gated(gated, place)

    with pytest.raises(SemError, match="not fetched: "):
        publish.fetch_package(place, None, tmp_path / "back", None)
    assert not [path for path in (tmp_path / "back").iterdir() if path.is_dir()]


def test_a_package_of_a_run_that_was_tainted_here_is_not_fetched(gated, published, tmp_path):
    run.mark_tainted(tmp_path / "runs" / gated.name, "t1", "2026-01-01T00:00:00+00:00", {})

    with pytest.raises(SemError, match=f"run {gated.name} is tainted"):
        publish.fetch_package(published[1], None, tmp_path / "back", None, tmp_path / "runs")
    assert not (tmp_path / "back").exists()


def test_a_package_that_is_there_with_other_content_is_left_alone(gated, published, tmp_path):
    _, place = published
    there = publish.fetch_package(place, None, tmp_path / "back", None)
    (there / "README.md").write_text("mine", "utf-8")

    with pytest.raises(SemError, match="is there, and differs from"):
        publish.fetch_package(place, None, tmp_path / "back", None)
    assert (there / "README.md").read_text("utf-8") == "mine"


def test_a_fetch_that_was_ended_goes_on_with_whole_files(gated, bucket, tmp_path):
    place = places.open_place("s3://models", bucket.url)
    publish_gated(gated, place)
    gets = []

    def cut_later(method: str, key: str) -> str | None:
        gets.append(key)
        return "cut" if len(gets) > 12 else None

    bucket.before = cut_later
    with pytest.raises(SemError):
        publish.fetch_package(place, None, tmp_path / "back", None)
    begun = contents(tmp_path / "back" / f".fetching-{gated.name}")
    assert begun
    # A file of a package that was there before, under the same name.
    files.write_file(tmp_path / "back" / f".fetching-{gated.name}" / "old" / "x.json", "{}")
    bucket.before = lambda method, key: None
    bucket.asked.clear()
    fetched = publish.fetch_package(place, None, tmp_path / "back", None)

    assert contents(fetched) == contents(gated)
    asked = [key for _, key in bucket.asked if "/files/" in key]
    assert len(asked) == len(contents(gated)) - len(begun)


def test_a_disk_without_room_is_named_before_anything_is_fetched(
    gated, published, tmp_path, monkeypatch
):
    _, place = published
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=1_000))

    with pytest.raises(SemError, match="1,000 bytes are free, the package needs"):
        publish.fetch_package(place, None, tmp_path / "back", None)


# The hub.


def test_a_repository_holds_the_package_and_nothing_else(gated, hub, tmp_path):
    place = places.open_place("hf://org/expert", None)
    hub.add_commit("models/org/expert", {".gitattributes": b"x", "old.bin": b"pickle"})

    address = publish_gated(gated, place)

    repository = hub.repositories["models/org/expert"]
    commit = repository.resolve("main")
    assert address == f"hf://org/expert@{commit}"
    content = dict(repository.commits[commit])
    assert content.pop(".gitattributes") == b"x"
    assert content == contents(gated)
    # Large files go to an address that the hub signed: it needs no token.
    assert hub.tokens == {"Bearer hf_token_of_a_test", ""}


def test_a_new_repository_is_private(gated, hub):
    publish_gated(gated, places.open_place("hf://org/expert", None))

    assert hub.repositories["models/org/expert"].is_private


def test_an_older_revision_is_fetched_by_its_commit(gated, hub, tmp_path):
    place = places.open_place("hf://org/expert", None)
    first = publish_gated(gated, place)
    hub.add_commit("models/org/expert", {"README.md": b"gone"})

    with pytest.raises(SemError, match="holds no package"):
        publish.fetch_package(place, None, tmp_path / "back", None)
    older = places.open_place(first, None)
    assert contents(publish.fetch_package(older, None, tmp_path / "back", None)) == contents(gated)
    with pytest.raises(SemError, match=f"holds run {gated.name}, not other"):
        publish.fetch_package(older, "other", tmp_path / "back", None)


def test_large_files_that_the_hub_has_are_not_sent_again(gated, hub):
    place = places.open_place("hf://org/expert", None)
    hub.before = lambda method, path: 500 if "/commit/" in path else None
    with pytest.raises(SemError, match="cannot publish to hf://org/expert"):
        publish_gated(gated, place)
    assert list(hub.repositories["models/org/expert"].commits.values())[-1].keys() == {
        ".gitattributes"
    }
    hub.before = lambda method, path: None
    hub.asked.clear()
    publish_gated(gated, place)

    assert not [path for _, path in hub.asked if path.startswith("/lfs/")]


def test_somebody_elses_commit_in_between_is_not_overwritten(gated, hub):
    place = places.open_place("hf://org/expert", None)
    publish_gated(gated, place)
    before = hub.repositories["models/org/expert"]
    pass_gate(gated, "PASS")
    key = write_keys(gated.parent)[0]
    signature.sign_package(gated, key)

    def commit_meanwhile(method: str, path: str) -> None:
        if "/preupload/" in path:
            hub.before = lambda method, path: None
            hub.add_commit("models/org/expert", {"README.md": b"theirs"})

    hub.before = commit_meanwhile
    with pytest.raises(SemError, match="cannot publish to hf://org/expert"):
        publish_gated(gated, place)
    assert before.commits[before.resolve("main")] == {"README.md": b"theirs"}


def test_a_hub_that_says_other_sizes_or_leads_out_is_not_believed(gated, hub, tmp_path):
    place = places.open_place("hf://org/expert", None)
    publish_gated(gated, place)
    hub.lies["README.md"] = 10**12
    with pytest.raises(SemError, match=r"README\.md is not of the size that the manifest says"):
        publish.fetch_package(place, None, tmp_path / "back", None)
    hub.lies["manifest.json"] = 10**9
    with pytest.raises(SemError, match=r"manifest\.json is too large"):
        publish.fetch_package(place, None, tmp_path / "back", None)
    repository = hub.repositories["models/org/expert"]
    repository.commits[repository.resolve("main")]["../../x.json"] = b"{}"
    with pytest.raises(SemError, match="which leads out of it"):
        publish.fetch_package(place, None, tmp_path / "back", None)
    assert not (tmp_path / "x.json").exists()


def test_a_hub_that_refuses_or_may_not_be_asked_is_one_clear_line(gated, hub, monkeypatch):
    place = places.open_place("hf://org/expert", None)
    hub.before = lambda method, path: 401
    with pytest.raises(SemError, match="cannot publish to hf://org/expert: ") as caught:
        publish_gated(gated, place)
    assert "hf_token_of_a_test" not in str(caught.value)
    hub.asked.clear()
    monkeypatch.setenv("SEM_OFFLINE", "1")
    with pytest.raises(SemError, match="SEM_OFFLINE=1"):
        publish_gated(gated, place)
    assert hub.asked == []


@pytest.mark.parametrize(
    ("address", "words"),
    [
        ("hf://org", "is not an address of the hub"),
        ("hf://org/name/file.json", "not a repository for a model"),
        ("hf://datasets/org/name", "not a repository for a model"),
        ("hf://../name", "is not an address of the hub"),
        ("s3://", "not a bucket"),
        ("s3://UPPER_case", "not a bucket"),
        ("gs://bucket", "not a place to publish to"),
    ],
)
def test_an_address_that_names_no_place_is_one_clear_line(address, words):
    with pytest.raises(SemError, match=words):
        places.open_place(address, None)


# The jobs.


def script(name: str, *words: str) -> list[str]:
    return [sys.executable, "-P", str(ROOT / "scripts" / f"package_{name}.py"), *words]


def environment(**more: str) -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(ROOT / "scripts"), **more}


def test_a_publisher_that_is_killed_leaves_no_half_package_and_goes_on(gated, bucket, tmp_path):
    words = script(
        "publish", "--path", str(gated), "--to", "s3://models", "--endpoint", bucket.url
    )
    bucket.before = lambda method, key: time.sleep(0.05)
    running = subprocess.Popen(words, env=environment())
    while len(bucket.objects) < 5:
        assert running.poll() is None
        time.sleep(0.01)
    running.kill()
    running.wait()
    half = len(bucket.objects)
    assert not any("/packages/" in key for key in bucket.objects)

    bucket.before = lambda method, key: None
    bucket.asked.clear()
    done = subprocess.run(words, env=environment(), capture_output=True, text=True, check=True)

    assert done.stdout.strip().endswith(f"s3://models/packages/{gated.name}.json")
    sent = [key for method, key in bucket.asked if method == "PUT"]
    assert len(sent) < len(bucket.objects) - half + 3
    back = script(
        "fetch", "s3://models", "--endpoint", bucket.url, "--into", str(tmp_path / "back")
    )
    subprocess.run(back, env=environment(), check=True)
    assert contents(tmp_path / "back" / gated.name) == contents(gated)


def test_a_disk_that_is_full_is_one_clear_line_and_leaves_no_half_package(gated, tmp_path):
    def fill_up() -> None:
        # No file may be larger: a write fails as on a full disk.
        resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, 50_000))

    words = script("publish", "--path", str(gated), "--to", str(tmp_path / "place"))
    done = subprocess.run(
        words, env=environment(), capture_output=True, text=True, preexec_fn=fill_up
    )

    assert done.returncode == 1
    assert "error: cannot write " in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "place" / "packages").exists()
    assert not list((tmp_path / "place").rglob(".tmp-*"))


def test_publish_yaml_asks_for_a_signature_of_its_key(gated, toy, tmp_path):
    folder = toy / "models" / "toy" / "packages" / gated.name
    shutil.copytree(gated, folder)
    shutil.copytree(ROOT / "configs", toy / "configs", dirs_exist_ok=True)
    files.write_file(toy / "models/toy/adapters" / gated.name / "run.json", "{}")
    files.write_file(toy / "models/toy/adapters" / gated.name / "manifest.json", "{}")
    key, public = write_keys(toy / "keys")
    files.write_file(toy / "configs/toy/publish.yaml", "signed_by: keys/release.pub\n")
    words = script("publish", "--sem", "toy", "--to", str(tmp_path / "place"))

    unsigned = subprocess.run(words, env=environment(), capture_output=True, text=True)
    signature.sign_package(folder, key)
    signed = subprocess.run(words, env=environment(), capture_output=True, text=True)

    assert unsigned.returncode == 1
    assert "the package is not signed" in unsigned.stderr
    assert signed.returncode == 0, signed.stderr
    assert public.exists()
