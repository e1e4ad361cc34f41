"""The certificate finds what two parts share, from their files; policy refuses or repairs it."""

import json
import random
from datetime import UTC, datetime
from itertools import product

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rowmaker import fill, project, read, row

from sem.core import jsonio
from sem.core.errors import SemError
from sem.dataset.clean import clean
from sem.dataset.config import Leaks
from sem.dataset.split import certificate, snapshot

AT = datetime(2026, 5, 4, 3, 2, 1, tzinfo=UTC)
WORDS = ["".join(letters) for letters in product("abcdef", repeat=4)]
BODY = " ".join(f"word{n} about the mug" for n in range(60))


def one(name: str, **changes):
    made = {"id": name, "task": "t", "input_text": f"{name} page", "output_json": name, "meta": {}}
    return {**made, **changes}


def certified(tmp_path, train, val, test):
    paths = {}
    for part, rows in (("train", train), ("val", val), ("test", test)):
        paths[part] = tmp_path / f"{part}.jsonl"
        paths[part].write_text("".join(jsonio.canonical_json(r) + "\n" for r in rows), "utf-8")
    return certificate.certify_leakage(paths, 0.8, tmp_path)


def found(made, between="train∩test"):
    return {
        kind: (one["keys"], one["rows"])
        for kind, one in made["shared"][between].items()
        if one["keys"]
    }


@pytest.mark.parametrize(
    ("kind", "a", "b"),
    [
        ("source", {"source_id": "doc"}, {"source_id": "doc"}),
        # One shop under two TLDs stood on both sides, and the certificate said 0.
        ("site", {"meta": {"domain": "acme.de"}}, {"meta": {"domain": "acme.co.uk"}}),
        ("template", {"meta": {"template": "00"}}, {"meta": {"template": "00"}}),
        ("answer", {"output_json": {"a": 1}}, {"output_json": {"a": 1}}),
        ("near", {"input_text": f"{BODY} one"}, {"input_text": f"{BODY} two"}),
    ],
)
def test_each_kind_of_leak_is_found_with_its_pair(tmp_path, kind, a, b):
    made = certified(tmp_path, [one("x", **a), one("y")], [one("v")], [one("z", **b)])

    assert found(made) == {kind: (1, 1)}
    assert made["shared"]["train∩test"][kind]["pairs"][0][:2] == ["x", "z"]
    assert found(made, "train∩val") == {}


def test_a_domain_that_is_shared_is_a_site_that_is_shared(tmp_path):
    a = {"meta": {"domain": "a.de"}}
    made = certified(tmp_path, [one("x", **a), one("y")], [one("v")], [one("z", **a)])

    assert found(made) == {"site": (1, 1), "domain": (1, 1)}


@pytest.mark.parametrize(
    ("a", "b"),
    [
        # a word that many have registered.
        ("shop.de", "shop.fr"),
        ("10.0.0.1", "10.0.0.2"),
        ("acme.de", "acne.de"),
        ("blogspot.com", "blogspot.de"),
        ("", ""),
    ],
)
def test_domains_of_other_owners_are_no_shared_site(tmp_path, a, b):
    made = certified(tmp_path, [one("x", meta={"domain": a})], [], [one("z", meta={"domain": b})])

    assert found(made) == {}


def test_the_same_input_is_an_exact_and_a_near_leak(tmp_path):
    made = certified(tmp_path, [one("x", input_text=BODY)], [], [one("z", input_text=BODY)])

    assert found(made) == {"exact": (1, 1), "near": (1, 1)}


def test_rows_are_those_of_the_second_part(tmp_path):
    tied = {"source_id": "doc"}
    made = certified(
        tmp_path, [one("x", **tied)], [], [one("z1", **tied), one("z2", **tied), one("z3")]
    )

    assert found(made) == {"source": (1, 2)}


def test_what_is_refused_names_the_pair_and_the_setting(tmp_path):
    made = certified(tmp_path, [one("x", source_id="d")], [], [one("z", source_id="d")])

    with pytest.raises(SemError, match="train∩test share a source document: 1 times, as 'x' and"):
        certificate.enforce_certificate(made, Leaks(source="refuse"))
    certificate.enforce_certificate(made, Leaks(source="report"))


def shop(tmp_path, leaks: str):
    """Twelve shops; the first two show nearly the same page."""
    rows = []
    for n in range(12):
        words = random.Random(n).choices(WORDS, k=80)
        body = " ".join(words) if n > 1 else BODY
        page = f"<html><body><h1>Mug {n}</h1><p>{body} {n}</p></body></html>"
        rows.append(row(f"{chr(97 + n)}1", input_text=page))
    settings_ = f"split: {{leaks: {{near: {leaks}}}}}\n"
    made = fill(project(tmp_path, settings_), *rows)
    clean.clean_store(made)
    return made


def test_near_duplicates_are_marked_and_move_together(tmp_path):
    made = shop(tmp_path, "repair")
    assert {r["id"]: r["meta"].get("near") for r in read(made.processed / clean.NAME)}[
        "b1"
    ] == "a1"

    frozen, _ = snapshot.freeze_snapshot(made, AT)

    part_of = {e.id: part for part in frozen.counts for e in frozen.examples(part)}
    assert part_of["a1"] == part_of["b1"]
    paths = {part: made.processed / f"{part}.v1.jsonl" for part in frozen.counts}
    assert certificate.certify_leakage(paths, 0.8, tmp_path) == frozen.facts["certificate"]
    shared = frozen.facts["certificate"]["shared"]
    assert {pair: kinds["near"]["keys"] for pair, kinds in shared.items()} == dict.fromkeys(
        ("train∩test", "train∩val", "val∩test"), 0
    )


def recut(made, seed: int):
    """Return `made` with another seed, cleaned and cut; the error where there is one."""
    spec = made.configs / "tasks" / "product.json"
    changed = json.loads(spec.read_text()) | {"eval_split": {"strategy": "random", "seed": seed}}
    spec.write_text(json.dumps(changed))
    made = type(made)(made.sem, made.root)
    clean.clean_store(made)
    try:
        snapshot.freeze_snapshot(made, AT)
    except SemError as error:
        return made, error.message
    return made, ""


def test_a_refused_leak_leaves_no_snapshot(tmp_path):
    made = shop(tmp_path, "refuse")
    said = ""
    # Until a cut puts the two apart.
    for seed in range(40):
        made, said = recut(made, seed)
        if said:
            break

    assert "share near-duplicates: 1 times, as 'a1' and 'b1'" in said
    left = sorted(path.name for path in made.processed.glob("*.v*.jsonl"))
    assert left == sorted(
        f"{part}.v{n}.jsonl"
        for part in ("train", "val", "test")
        for n in snapshot.snapshot_versions(made)
    )
    assert not list(made.processed.glob(".tmp-*"))


ROWS = st.lists(
    st.tuples(
        st.sampled_from("abcdefgh"), st.sampled_from(["", "d1", "d2", "d3"]), st.integers(0, 5)
    ),
    min_size=12,
    max_size=30,
)


@settings(max_examples=25, deadline=None)
@given(rows=ROWS, seed=st.integers(0, 99))
def test_nothing_that_is_repaired_straddles_a_cut(tmp_path_factory, rows, seed):
    from sem.core.errors import Insufficient
    from sem.core.example import Example
    from sem.core.taskspec import EvalSplit
    from sem.dataset.config import Split
    from sem.dataset.split import splits

    examples = [
        Example(
            f"{n:02}",
            "t",
            f"text {copy} of {shop}",
            n,
            {"domain": f"{shop}.de"},
            source_id=source or None,
        )
        for n, (shop, source, copy) in enumerate(rows)
    ]
    try:
        cut = splits.cut_splits(
            [splits.make_split_item(e, Split()) for e in examples],
            EvalSplit("random", 0.6, 0.2, 0.2, seed),
        )
    except Insufficient:
        # Too few groups: refused, never cut through one.
        return
    part_of = {name: part for part in cut for group in cut[part] for name in group.ids}
    for kind in ("domain", "source", "exact"):
        parts: dict[str, set[str]] = {}
        for e in examples:
            if key := certificate.leak_keys(e).get(kind):
                parts.setdefault(key, set()).add(part_of[e.id])
        assert all(len(there) == 1 for there in parts.values()), kind
