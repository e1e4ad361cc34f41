"""The API of docs/optimizer.md, asked over HTTP of a real server with a real tiny network."""

import json
import shutil
from pathlib import Path

import pytest
from rewriters import Served, load, make_optimizer
from toy import make_t5

from sem.optimizer.server.service import FILE

ASKED = {"raw_prompt": "write code", "temperature": 0, "max_length": 12}


@pytest.fixture(scope="module")
def root(tmp_path_factory) -> Path:
    made = tmp_path_factory.mktemp("tree")
    make_optimizer(made, make_t5(made / "t5"))
    return made


@pytest.fixture(scope="module")
def served(root):
    with Served(root, lambda: load(root)) as running:
        yield running.until_loaded()


def events(text: str) -> list[tuple[str, dict]]:
    """Return the server-sent events in `text`."""
    found = [block.split("\n") for block in text.strip().split("\n\n")]
    return [(name[7:], json.loads(data[6:])) for name, data in found]


def test_health_says_what_is_loaded(served):
    assert served.http.get("/health").json() == {
        "status": "healthy",
        "model_loaded": True,
        "device": "cpu",
        "model_type": "t5-lora-ctranslate2",
        "approach": "neural rewriting: a frozen T5 with a trained LoRA adapter, no rules",
        "model": "run1",
        "waiting": 0,
        "cure": None,
    }


def test_a_rewrite_has_a_text_and_a_confidence(served, root):
    reply = served.post("/optimize", **ASKED)
    (expected,) = served.service.network.rewriter.rewrite(["write code"], decoding(12))

    assert reply.status_code == 200
    assert reply.json().keys() == {"optimized_prompt", "confidence"}
    assert reply.json()["optimized_prompt"] == expected.text
    # No layout, so nothing to offer.
    assert 0 <= reply.json()["confidence"] <= 0.5


def decoding(length: int):
    from sem.optimizer.model.rewriter import Decoding

    return Decoding(length, 0.0, 1)


def test_temperature_0_is_greedy_and_another_varies(served):
    same = {served.post("/optimize", **ASKED).text for _ in range(4)}
    hot = ASKED | {"temperature": 2.0}
    varied = {served.post("/optimize", **hot).text for _ in range(8)}

    assert len(same) == 1
    assert len(varied) > 1


def test_the_requests_of_a_vs_code_client_are_understood(served, root):
    # What that client sends: fields of older servers always, and no length or temperature.
    health = served.http.get("/health").json()
    assert health["model_loaded"] is True
    one = served.post(
        "/optimize", raw_prompt="sort a list", rule_indices=[0, 3], return_embeddings=False
    )
    assert one.status_code == 200
    assert isinstance(one.json()["confidence"], float)
    many = served.post("/optimize/batch", prompts=["a", "b", "c"], rule_indices=[]).json()
    assert [len(many[key]) for key in ("optimized_prompts", "confidences")] == [3, 3]
    said = served.post(
        "/feedback", raw_prompt="a", edited_prompt="b", success_score=0.8, rule_indices=[1]
    )
    assert said.json() == {"success": True, "message": "kept for the next training run"}
    rules = served.http.get("/rules").json()
    assert rules == {"rules": [], "note": "No rules: every rewrite comes from the network."}
    refused = served.post("/optimize", raw_prompt="", rule_indices=[], return_embeddings=True)
    assert refused.json()["detail"] == "raw_prompt: String should have at least 1 character"


def test_a_batch_is_what_its_prompts_are_alone(served):
    prompts = ["write code", "sort a list", "explain {a: 1}"]
    asked = {"temperature": 0, "max_length": 12}
    reply = served.post("/optimize/batch", prompts=prompts, **asked).json()
    alone = [served.post("/optimize", raw_prompt=each, **asked).json() for each in prompts]

    assert reply["optimized_prompts"] == [each["optimized_prompt"] for each in alone]
    # Its last bits depend on the batch's width.
    sure = [each["confidence"] for each in alone]
    assert reply["confidences"] == pytest.approx(sure, abs=1e-6)


def test_a_long_prompt_is_refused_with_its_tokens_and_the_limit(served):
    reply = served.post("/optimize", raw_prompt="a " * 150)
    tokens = served.service.network.rewriter.count("a " * 150)

    assert reply.status_code == 422
    assert reply.json() | {"request_id": ""} == {
        "detail": f"the prompt is {tokens} tokens, at most 128 are read",
        "reason": "prompt_too_long",
        "request_id": "",
        "tokens": tokens,
        "limit": 128,
    }


@pytest.mark.parametrize("path", ["/optimize", "/optimize/stream"])
def test_a_stream_s_tokens_are_the_beginning_of_its_text(served, path):
    whole = served.post("/optimize", **ASKED).json()
    reply = served.post(path, **ASKED, stream=True)
    *tokens, (name, done) = events(reply.text)

    assert reply.headers["content-type"].startswith("text/event-stream")
    assert (name, done) == ("done", whole)
    assert {kind for kind, _ in tokens} <= {"token"}
    assert whole["optimized_prompt"].startswith("".join(said["text"] for _, said in tokens))


def test_feedback_is_kept_in_order_with_its_keys_taken_out(served, root):
    (root / FILE).unlink(missing_ok=True)
    for number in range(3):
        served.post(
            "/feedback",
            raw_prompt=f"use sk-abcdefgh12345678 {number}",
            edited_prompt="é\n{x}",
            success_score=number / 2,
        )
    rows = [json.loads(line) for line in (root / FILE).read_text("utf-8").splitlines()]

    assert [row["success_score"] for row in rows] == [0.0, 0.5, 1.0]
    assert [row["raw_prompt"] for row in rows] == [f"use [key] {n}" for n in range(3)]
    assert {row["edited_prompt"] for row in rows} == {"é\n{x}"}
    assert {row["model"] for row in rows} == {"run1"}
    assert rows[0].keys() == {"at", "edited_prompt", "model", "raw_prompt", "success_score"}


def test_feedback_that_is_full_is_refused_and_says_so(root, tmp_path):
    (tmp_path / FILE).parent.mkdir(parents=True)
    # 1 MiB less a few bytes.
    (tmp_path / FILE).write_bytes(b"{}\n" * 349_520)
    with Served(tmp_path, lambda: load(root), feedback_mib=1) as running:
        reply = running.post("/feedback", raw_prompt="a", edited_prompt="b", success_score=1)

    assert (reply.status_code, reply.json()["reason"]) == (503, "feedback_full")
    assert reply.headers["retry-after"] == "3600"
    assert (tmp_path / FILE).stat().st_size == 1_048_560


def test_nothing_is_served_before_a_trained_adapter_is_there(root, tmp_path):
    shutil.copytree(root / "t5", tmp_path / "t5")
    with Served(tmp_path, lambda: load(tmp_path)) as running:
        asked = [
            running.post("/optimize", **ASKED),
            running.post("/optimize/batch", prompts=["a"]),
        ]
        asked.append(running.post("/optimize", **ASKED, stream=True))
        health = running.http.get("/health").json()
        assert [(r.status_code, r.json()["detail"]) for r in asked] == [
            (503, "Model not loaded")
        ] * 3
        assert (health["status"], health["model_loaded"]) == ("healthy", False)
        # Nothing named the cure: neither the refusal nor /health nor the page.
        wait_for(lambda: "optimizer.train" in running.http.get("/health").json()["cure"])
        assert "fab optimizer.train" in running.post("/optimize", **ASKED).json()["cure"].replace(
            "optimizer.data ", ""
        )

        make_optimizer(tmp_path, tmp_path / "t5", "zero", scale=0)
        assert running.http.get("/health").json()["model_loaded"] is False
        wait_for(lambda: "the adapter is zero everywhere" in running.service.loading.fault)

        make_optimizer(tmp_path, tmp_path / "t5", "zzz")
        assert running.until_loaded().post("/optimize", **ASKED).status_code == 200
        loaded = running.http.get("/health").json()
        assert (loaded["model"], loaded["cure"]) == ("zzz", None)


def wait_for(claim, within_s: float = 10) -> None:
    import time

    end = time.monotonic() + within_s
    while not claim():
        assert time.monotonic() < end
        time.sleep(0.01)


def test_metrics_count_what_happened(served):
    before = served.service.metrics.registry.get_sample_value
    name, labels = "sem_optimizer_requests_total", {"route": "/optimize", "status": "200"}
    first = before(name, labels) or 0
    served.post("/optimize", **ASKED)
    served.http.get("/nobody/made/this/route")
    text = served.http.get("/metrics").text

    assert f'{name}{{route="/optimize",status="200"}} {first + 1}' in text
    assert "sem_optimizer_model_loaded 1.0" in text
    assert "nobody" not in text
