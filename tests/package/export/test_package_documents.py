"""Card, licences and bills of materials: what the package's own files make them."""

import pytest
import yaml

from sem.core import files, jsonio
from sem.core.taskspec import TaskSpec
from sem.package import contract
from sem.package.export import bundle, documents, repro_lock
from sem.package.verify import verify


def front_matter(text: str) -> dict:
    """Return the YAML head of the card `text`."""
    return yaml.safe_load(text.split("---\n")[1])


def change_run(folder, **base: str) -> None:
    """Write other facts of the base model into run.json."""
    plan = files.read_json(folder / "run.json")
    plan["base_model"].update(base)
    files.write_file(folder / "run.json", jsonio.pretty_json(plan))


def test_documents_are_the_same_whenever_they_are_written(package) -> None:
    first, second = (documents.write_documents(package) for _ in range(2))
    assert first == second
    assert {name: files.read_text(package / name) for name in first} == first


def test_the_card_holds_the_scores_and_their_intervals(package) -> None:
    head = front_matter(files.read_text(package / "README.md"))
    scores = files.read_json(package / "scores.json")
    (model,) = head["model-index"]
    (result,) = model["results"]
    assert result["dataset"]["revision"] == scores["snapshot"]["sha256"]
    assert (head["library_name"], head["pipeline_tag"]) == ("transformers", "text-generation")
    for metric in result["metrics"]:
        name = metric["type"]
        assert (metric["n"], metric["value"]) == (scores["tuned"]["n"], scores["tuned"][name])
        assert metric["against_base_points"]["high"] == scores["difference_points"][name]["high"]


def test_the_card_says_what_it_answers_and_how_it_is_asked(package) -> None:
    card = files.read_text(package / "README.md")
    for words in (
        "| price | price, title |",
        "opensem ask page.html --path PACKAGE --task price",
        "It has passed no gate",
        "PeftModel.from_pretrained(base",
        "Prompt and answer together have 512 tokens",
    ):
        assert words in card


def test_a_gate_is_told_by_the_card(package) -> None:
    gate = {"run": package.name, "sem": "toy", "split": "test", "verdict": "PASS", "at": "2026-01"}
    files.write_file(package / "gate.json", jsonio.pretty_json(gate))
    assert (
        "Verdict of the gate: PASS (2026-01)." in documents.write_documents(package)["README.md"]
    )


LICENCES = {
    "Apache-2.0": ("apache-2.0", "Apache License 2.0"),
    "Gemma Terms of Use (not an OSI licence; a use policy applies)": (
        "gemma",
        "Gemma is provided",
    ),
    "MIT (a fine-tune of another)": ("mit", "MIT licence"),
    "see the model card of org/name": ("other", "ask its publisher"),
    "not stated: a local folder": ("other", "ask its publisher"),
}


@pytest.mark.parametrize("stated", LICENCES)
def test_the_licence_of_the_base_is_passed_on_with_its_duties(package, stated) -> None:
    change_run(package, licence=stated)
    written = documents.write_documents(package)
    word, words = LICENCES[stated]
    assert front_matter(written["README.md"])["license"] == word
    assert words in written["LICENSES.md"]


def test_a_base_of_a_hub_is_named_as_peft_finds_it(package) -> None:
    commit = "a" * 40
    change_run(package, base_model_id=f"org/name@{commit}")
    card = documents.write_documents(package)["README.md"]
    assert front_matter(card)["base_model"] == "org/name"
    assert f"names org/name at {commit}; PEFT resolves it" in card
    assert bundle.adapter_base(f"org/name@{commit}") == {
        "base_model_name_or_path": "org/name",
        "revision": commit,
    }
    assert bundle.adapter_base("pip:x==1") == {"base_model_name_or_path": "pip:x==1"}


def test_no_text_of_a_package_opens_a_key_or_a_tag_in_the_card(package) -> None:
    scores = files.read_json(package / "scores.json")
    scores["sem"] = 'x"\n---\n<script>alert(1)</script>'
    files.write_file(package / "scores.json", jsonio.pretty_json(scores))
    card = documents.write_documents(package)["README.md"]
    assert "<script>" not in card.split("---\n", 2)[2]
    assert front_matter(card)["license"] == "other"


@pytest.mark.parametrize("name", documents.BILLS)
@pytest.mark.parametrize("licence", ["Apache-2.0", "not stated: a local folder"])
def test_bills_of_materials_keep_to_cyclonedx(package, name, licence) -> None:
    validation = pytest.importorskip("cyclonedx.validation.json")
    from cyclonedx.schema import SchemaVersion

    change_run(package, licence=licence)
    text = documents.write_documents(package)[name]
    assert validation.JsonStrictValidator(SchemaVersion.V1_6).validate_str(text) is None
    broken = jsonio.parse_json(text) | {"evil": 1}
    validator = validation.JsonStrictValidator(SchemaVersion.V1_6)
    assert validator.validate_str(jsonio.pretty_json(broken)) is not None


def test_the_sbom_is_the_lock_and_the_lock_is_no_more_than_is_needed(package) -> None:
    text = files.read_text(package / "repro.lock")
    sbom = files.read_json(package / "sbom.cdx.json")
    pins = [(part["name"], part["version"]) for part in sbom["components"]]
    assert pins == repro_lock.read_pins(text) == sorted(set(pins))
    names = {name for name, _ in pins}
    # Asked with: the model, the schema's mask, the cleaner, and what those need themselves.
    assert {"torch", "transformers", "llguidance", "selectolax", "jsonschema", "attrs"} <= names
    # Of the tests, of the judge, of the server.
    assert not {"pytest", "hypothesis", "cyclonedx-python-lib", "litellm", "fastapi"} & names


REQUIREMENTS = {
    "a plain name": ("Foo_Bar>=1,<2", {("foo-bar", frozenset())}),
    "extras": ("foo[b,a]==1", {("foo", frozenset({"a", "b"}))}),
    "a marker of the system": ("foo; sys_platform == 'linux'", {("foo", frozenset())}),
    "an extra that is not asked for": ("foo; extra == 'test'", set()),
    "an extra that is": (
        'foo>1; python_version > "3" and extra == "train"',
        {("foo", frozenset())},
    ),
    "an address": ("foo @ file:///x/y.whl", {("foo", frozenset())}),
}


@pytest.mark.parametrize("name", REQUIREMENTS)
def test_a_requirement_is_read_as_installers_read_it(name) -> None:
    line, entries = REQUIREMENTS[name]
    assert set(repro_lock._wanted([line], {"train"})) == entries


def test_an_installed_package_locks_what_is_installed(monkeypatch) -> None:
    monkeypatch.setattr(repro_lock, "IS_CHECKOUT", False)
    monkeypatch.setattr(repro_lock, "_roots", lambda: ["jinja2"])
    plan = {"source": {"commit": "c", "dirty": False}, "packages": {"torch": "2"}}
    lines = repro_lock.write_lock(plan).splitlines()
    assert lines[1] == "# trained with torch 2"
    assert [line.partition("==")[0].lower() for line in lines[2:]] == ["jinja2", "markupsafe"]


def test_each_task_has_its_schema(package) -> None:
    specs = list(contract.read_tasks(package).values())
    schema = files.read_json(package / "serve/schemas/price.schema.json")
    assert [schema] == [spec.io_schema for spec in specs]
    assert all(isinstance(spec, TaskSpec) for spec in specs)


def test_a_copied_licence_and_a_gate_of_this_run_are_no_fault(package) -> None:
    from hostilepackages import seal

    gate = {"run": package.name, "sem": "toy", "split": "test", "verdict": "PASS"}
    files.write_file(package / "gate.json", jsonio.pretty_json(gate))
    files.write_file(package / "LICENSE.base", "Apache License\n")
    seal(package, knowing=True)
    assert verify.package_faults(package) == []
