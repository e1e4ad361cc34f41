"""The strict document that a proof is made of, its hashes, and what is wrong with one.

It holds nothing of a preview: the root and every object refuse unknown keys. Hashes follow the
published outputs (docs/preview.md): a document verifies when its public_inputs_hash comes out
again from its own contents in two steps.
"""

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from sem.core import files, jsonio, schema
from sem.core.errors import SemError
from sem.core.projects import SHIPPED

SCHEMA = SHIPPED / "schemas" / "zk-output.v1.schema.json"
ROOT_PARTS = ("delta_computation", "baseline_model", "new_model", "evaluation_metadata")
CONTRIBUTOR = ("contributed_samples", "total_samples", "contributor_weights", "data_manifest")
TEST, NONE = "test", "none"


def hash_sorted_json(value: Any, compact: bool = False) -> str:
    """Return the hex digest of `value` as sorted JSON.

    The separators are `, ` and `: `, or `,` and `:` when `compact`.
    """
    separators = (",", ":") if compact else None
    text = json.dumps(value, sort_keys=True, separators=separators, allow_nan=False)
    return hashlib.sha256(text.encode("utf-8")).hexdigest()


def model_hash(model: Mapping[str, Any]) -> str:
    """Return what names `model`: its id, type and metrics, not its weights."""
    return hash_sorted_json({name: model[name] for name in ("model_id", "model_type", "metrics")})


def benchmark_hash(benchmark: Mapping[str, Any]) -> str:
    """Return what names a benchmark: its size, type and features, not its rows."""
    return hash_sorted_json({name: benchmark[name] for name in ("size", "type", "features")})


def root_hash(legacy: Mapping[str, Any]) -> str:
    """hash_tree_root of the `legacy` output: one digest, not a Merkle tree."""
    return hash_sorted_json({name: legacy[name] for name in ROOT_PARTS})


def public_inputs_hash(document: Mapping[str, Any]) -> str:
    """Return the hash that `document`'s attestation must hold, whatever it holds now.

    First the public inputs alone, then the whole document with that digest in its place.
    """
    contributor = document.get("contributor_info")
    if contributor is None:
        raise SemError(
            "a document of several contributors has no contributor_hash to start from",
            "check it against the schema only; the published recipe knows one contributor",
        )
    first = hash_sorted_json(
        {
            "delta_one_score": document["delta_computation"]["delta_one_score"],
            "baseline_metrics": document["evaluation_results"]["baseline_metrics"],
            "new_metrics": document["evaluation_results"]["new_metrics"],
            "contributor_hash": contributor["data_hash"],
        }
    )
    attestation = {**document["attestation"], "public_inputs_hash": first}
    return hash_sorted_json({**document, "attestation": attestation}, compact=True)


def build_zk_document(
    legacy: Mapping[str, Any], version: str, environment: str = TEST
) -> dict[str, Any]:
    """Return the strict form of the `legacy` output, checked against the schema.

    `version` is that of this program.
    """
    evaluated, pipeline = legacy["evaluation_metadata"], legacy["pipeline_metadata"]
    benchmark, attribution = evaluated["benchmark_dataset"], legacy["contributor_attribution"]
    deltas = legacy["delta_computation"]
    zk_document = {
        "schema_version": legacy["schema_version"],
        "metadata": {
            "pipeline_run_id": pipeline["run_id"],
            "timestamp": pipeline["timestamp"],
            "pipeline_version": version,
            "environment": environment,
            "dry_run": pipeline["dry_run"],
        },
        "evaluation_results": {
            "baseline_metrics": legacy["baseline_model"]["metrics"],
            "new_metrics": legacy["new_model"]["metrics"],
            "benchmark_metadata": {**benchmark, "dataset_hash": benchmark_hash(benchmark)},
            "evaluation_timestamp": evaluated["evaluation_timestamp"],
            "evaluation_time_seconds": evaluated["evaluation_time_seconds"],
        },
        "delta_computation": {"improved_metrics": [], "degraded_metrics": [], **deltas},
        "models": {
            "baseline": _model(legacy["baseline_model"]),
            "new": _model(legacy["new_model"]),
        },
        "contributor_info": {
            "data_hash": attribution["data_hash"],
            **{name: attribution[name] for name in CONTRIBUTOR},
            "validation_status": "valid",
        },
        "attestation": {
            "hash_tree_root": root_hash(legacy),
            "proof_ready": True,
            "signature_blob": None,
            "verification_key": None,
            "proof_system": NONE,
            "circuit_hash": None,
        },
    }
    zk_document["attestation"]["public_inputs_hash"] = public_inputs_hash(zk_document)
    wrong = zk_problems(zk_document)
    if wrong:
        raise SemError(f"the ZK document breaks its schema: {wrong[0]}", "report this")
    return zk_document


def _model(model: Mapping[str, Any]) -> dict[str, Any]:
    trained = model.get("training_metadata")
    record = {
        "model_id": model["model_id"],
        "model_type": model["model_type"],
        "model_hash": model_hash(model),
        "training_config_hash": hash_sorted_json(trained or {}),
        "mlflow_run_id": model.get("mlflow_run_id"),
        "metrics": model["metrics"],
    }
    return {**record, "training_metadata": trained} if trained else record


def zk_problems(value: Any) -> list[str]:
    """Return what keeps `value` from being a ZK document, as `path: message` lines."""
    return schema.schema_problems(value, jsonio.parse_json(files.read_text(SCHEMA)))


def is_proven(value: Mapping[str, Any]) -> bool:
    """Return whether `value`, which fits the schema, holds the public_inputs_hash of its
    contents.
    """
    return value["attestation"].get("public_inputs_hash") == public_inputs_hash(value)
