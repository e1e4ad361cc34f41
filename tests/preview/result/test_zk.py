"""The strict document: our schema accepts and refuses as the published one, hashes come out."""

import copy
import hashlib
import json
from pathlib import Path

import pytest

from sem.core import files, jsonio, schema
from sem.core.errors import SemError
from sem.jobs import load_jobs
from sem.preview.result import zk

RUN = "1749778254976095"


@pytest.fixture
def hokusai(shared: Path) -> Path:
    return shared / "compat" / "hokusai"


@pytest.fixture
def shipped(hokusai: Path) -> dict:
    return files.read_json(hokusai / "outputs" / f"delta_output_{RUN}_zk.json")


@pytest.fixture
def legacy(hokusai: Path) -> dict:
    return files.read_json(hokusai / "outputs" / f"delta_output_{RUN}.json")


def test_the_shipped_document_fits_and_verifies(shipped) -> None:
    assert zk.zk_problems(shipped) == []
    assert zk.is_proven(shipped)


@pytest.mark.parametrize("path", ["valid_zk_output", "valid_zk_output_multiple_contributors"])
def test_the_valid_examples_fit(hokusai, path) -> None:
    assert zk.zk_problems(files.read_json(hokusai / "schema" / "examples" / f"{path}.json")) == []


def test_the_invalid_example_and_a_preview_do_not(hokusai) -> None:
    invalid = files.read_json(hokusai / "schema" / "examples" / "invalid_example.json")
    assert len(zk.zk_problems(invalid)) >= 10
    assert len(zk.zk_problems(files.read_json(hokusai / "outputs" / "preview_test.json"))) >= 7


def test_every_hash_of_the_shipped_document_is_made_again(legacy, shipped) -> None:
    for side in ("baseline", "new"):
        assert zk.model_hash(legacy[f"{side}_model"]) == shipped["models"][side]["model_hash"]
    benchmark = legacy["evaluation_metadata"]["benchmark_dataset"]
    told = shipped["evaluation_results"]["benchmark_metadata"]
    assert zk.benchmark_hash(benchmark) == told["dataset_hash"]
    assert zk.root_hash(legacy) == shipped["attestation"]["hash_tree_root"]


def test_our_document_of_the_legacy_output_is_the_shipped_one(legacy, shipped) -> None:
    timed = copy.deepcopy(legacy)
    timed["pipeline_metadata"]["timestamp"] = shipped["metadata"]["timestamp"]
    evaluated = shipped["evaluation_results"]["evaluation_timestamp"]
    timed["evaluation_metadata"]["evaluation_timestamp"] = evaluated
    made = zk.build_zk_document(timed, shipped["metadata"]["pipeline_version"])
    made["attestation"]["hash_tree_root"] = shipped["attestation"]["hash_tree_root"]
    made["contributor_info"] = {
        name: value
        for name, value in made["contributor_info"].items()
        if name in shipped["contributor_info"]
    }
    made["attestation"]["public_inputs_hash"] = zk.public_inputs_hash(made)
    assert made == shipped


def test_our_schema_refuses_what_the_published_one_refuses(hokusai, shipped) -> None:
    published = files.read_json(hokusai / "schema" / "zk_output_schema.json")
    for spoil in SPOILS:
        spoilt = copy.deepcopy(shipped)
        spoil(spoilt)
        assert schema.schema_problems(spoilt, published), spoil
        assert zk.zk_problems(spoilt), spoil


def put(value: object, *path: str):
    def spoil(document: dict) -> None:
        for name in path[:-1]:
            document = document[name]
        if value is ...:
            del document[path[-1]]
        else:
            document[path[-1]] = value

    return spoil


SPOILS = [
    put(1, "more"),
    put(..., "models"),
    put(..., "contributor_info"),
    put("1", "schema_version"),
    put("a b", "metadata", "pipeline_run_id"),
    put("yesterday", "metadata", "timestamp"),
    put("unknown", "metadata", "environment"),
    put(0, "evaluation_results", "benchmark_metadata", "size"),
    put(1.5, "evaluation_results", "new_metrics", "accuracy"),
    put(..., "evaluation_results", "baseline_metrics", "accuracy"),
    put("x", "evaluation_results", "new_metrics", "other"),
    put("mean", "delta_computation", "computation_method"),
    put("True", "delta_computation", "metric_deltas", "f1", "improvement"),
    put(..., "delta_computation", "metric_deltas", "f1", "relative_delta"),
    put({}, "delta_computation", "metric_deltas", "F-1"),
    put("A" * 64, "models", "new", "model_hash"),
    put(2, "contributor_info", "contributor_weights"),
    put("0x12", "contributor_info", "wallet_address"),
    put(-1, "contributor_info", "data_manifest", "row_count"),
    put([], "contributors"),
    put("no", "attestation", "proof_ready"),
    put("snark", "attestation", "proof_system"),
]


def test_a_changed_figure_is_noticed(shipped) -> None:
    shipped["delta_computation"]["delta_one_score"] += 1e-9
    assert zk.zk_problems(shipped) == []
    assert not zk.is_proven(shipped)


def test_several_contributors_have_no_recipe(shipped) -> None:
    del shipped["contributor_info"]
    with pytest.raises(SemError, match="several contributors"):
        zk.public_inputs_hash(shipped)


FITTING = {
    f"delta_output_{RUN}_zk.json",
    "valid_zk_output.json",
    "valid_zk_output_multiple_contributors.json",
}


def test_every_published_file_is_accepted_or_refused_as_its_owners_would(hokusai) -> None:
    published = files.read_json(hokusai / "schema" / "zk_output_schema.json")
    fitting, count = set(), 0
    for path in sorted(hokusai.rglob("*.json")):
        found = files.read_json(path)
        ours, theirs = zk.zk_problems(found), schema.schema_problems(found, published)
        assert bool(ours) == bool(theirs), path.name
        count += 1
        if not ours:
            fitting.add(path.name)
    assert fitting == FITTING
    assert count >= 50


@pytest.mark.parametrize(
    "path", ["configs/model_30_budget.yaml", "fixtures/technical_task_router_fixture.csv"]
)
def test_what_is_no_json_is_one_line(hokusai, path) -> None:
    with pytest.raises(SemError):
        load_jobs()["preview.validate"].call([str(hokusai / path)])


@pytest.mark.parametrize(
    ("name", "words", "valid"),
    [
        (f"outputs/delta_output_{RUN}_zk.json", ["--zk-check"], True),
        ("schema/examples/valid_zk_output_multiple_contributors.json", [], True),
        ("schema/examples/invalid_example.json", [], False),
        ("outputs/preview_test.json", [], False),
        (f"outputs/delta_output_{RUN}.json", [], False),
    ],
)
def test_the_command_says_so_and_names_the_same_hash(hokusai, capsys, name, words, valid) -> None:
    argv = [str(hokusai / name), "--output-hash", "--format", "json", *words]
    if valid:
        load_jobs()["preview.validate"].call(argv)
    else:
        with pytest.raises(SemError, match="problem"):
            load_jobs()["preview.validate"].call(argv)
    said = jsonio.parse_json(capsys.readouterr().out)
    assert said["valid"] is valid
    text = json.dumps(files.read_json(hokusai / name), sort_keys=True, separators=(",", ":"))
    assert said["sha256"] == hashlib.sha256(text.encode()).hexdigest()
