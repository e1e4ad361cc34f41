"""What needs no training is beside every figure: a constant answer, the base held to the form."""

from dataclasses import replace

import pytest
from scores import column

from sem.core import files, jsonio
from sem.core.project import Project
from sem.core.run import BASE
from sem.eval.answers import answers, subject
from sem.eval.gate import gate, gate_inputs
from sem.eval.gate.gate import Evidence
from sem.eval.gate.margins import FAIL, PASS
from sem.eval.gate.policy import Policy
from sem.eval.report import baselines, compare, eval_report_v1, plots, report, report_page
from sem.eval.stats import paired_stats


@pytest.fixture
def project(cut_toy) -> Project:
    """The toy project whose base model answers every second title right."""
    answer(cut_toy, lambda n, wanted: {**wanted, "title": "?"} if n % 2 else wanted)
    return cut_toy


def answer(made: Project, say, decoding: str = "free") -> None:
    found = subject.resolve_subject(made, BASE, "test", None)
    found = replace(found, settings=replace(found.settings, decoding=decoding))
    found.book.open()
    texts = [
        (e, jsonio.canonical_json(say(n, e.output_json))) for n, e in enumerate(found.examples)
    ]
    rows = [vars(answers.Answer(e.id, e.task, t, "stop", 10, 5, 20, 4)) for e, t in texts]
    files.write_rows(found.book.path, rows)


def scores(made: Project):
    reading = compare.read_comparison(made, BASE, BASE, "test", None)
    return reading, compare.comparison_scores(reading)


def test_a_constant_answer_is_each_fields_most_common_value(project, monkeypatch):
    found = subject.resolve_subject(project, BASE, "test", None)
    train = [{"title": "Mug", "price": 1}, {"title": "Cup", "price": 2}]
    train += [{"title": "Mug", "price": None}]
    train += [{"title": "Jug", "price": None}, {"price": 2}, {"price": 2, "title": None}]
    examples = [replace(e, output_json=t) for e, t in zip(found.examples, train, strict=False)]
    monkeypatch.setattr(type(found.frozen), "examples", lambda *_: iter(examples))

    # Of equals the first by its text: "Mug" twice, null (or no key) twice.
    assert baselines.constant_answers(found) == {"price": {"price": 2, "title": "Mug"}}


def test_nested_fields_and_lists_have_a_constant_too():
    from toy import SPEC

    from sem.core import settings
    from sem.core.taskspec import TaskSpec

    text = {"type": "string"}
    seller = {"type": "object", "properties": {"name": text, "city": text}}
    fields = {"seller": seller, "lines": {"type": "array", "items": seller}}
    schema = {"type": "object", "properties": fields}
    values = SPEC | {"base_model_id": "x", "io_schema": schema, "rubric": {}}
    spec = settings.build_settings(TaskSpec, values, "spec")
    counts: dict = {}
    for name, city in (("a", "x"), ("a", "y"), ("b", "y")):
        reference = {"seller": {"name": name, "city": city}, "lines": [{"name": name}]}
        baselines._count(counts, spec, reference)

    assert baselines._most_common(counts) == {
        "seller": {"name": "a", "city": "y"},
        "lines": [{"name": "a"}],
    }
    word = settings.build_settings(
        TaskSpec, values | {"io_schema": {"enum": ["YES", "NO"]}}, "spec"
    )
    answers_of: dict = {}
    for said in ("NO", "YES", "NO"):
        baselines._count(answers_of, word, said)
    assert baselines._most_common(answers_of) == "NO"


def test_every_report_has_both_columns_and_says_how_to_make_the_missing_one(project, tmp_path):
    reading, found = scores(project)

    text = report.report_markdown(found)
    shown = report_page.report_html(found, reading)

    assert report.report_columns(found)[4:6] == ("constant", "base, constrained")
    assert all(len(row) == len(report.report_columns(found)) for row in report.metric_rows(found))
    assert all(len(row) == len(report.field_columns(found)) for row in report.field_rows(found))
    assert found["rivals"]["base, constrained"] is None
    assert found["rivals"]["constant"]["accuracy"] < 0.5
    for one in (text, shown):
        assert "fab eval.generate --run base --decoding constrained --split test" in one
        assert "Against constant" in one
    assert "beats the better" in text
    eval_report_v1.check_eval_report(found, eval_report_v1.SCORES, "scores.json")


def test_the_constrained_base_is_a_column_where_it_has_answered(project):
    answer(project, lambda n, wanted: wanted, "constrained")

    _, found = scores(project)

    assert found["rivals"]["missing"] is None
    assert found["rivals"]["best"] == "base, constrained"
    assert found["rivals"]["base, constrained"]["accuracy"] == 1.0
    assert found["rivals"]["fields"]["price.title"]["best"] == "base, constrained"
    # Half its titles are right: no better than what the base says in the asked form.
    assert not found["rivals"]["fields"]["price.title"]["beats"]
    assert found["rivals"]["sentence"].startswith("Against base, constrained (100.0%): no improve")


def test_a_field_that_a_constant_answers_as_well_is_not_green():
    # `availability` was 32.7 % for both, and painted green.
    better = plots.Interval("a", 30, 20, 40, 50, beats=False)
    best = plots.Interval("b", 30, 20, 40, 50, beats=True)
    worse = plots.Interval("c", -30, -40, -20, 50, beats=False)

    made = plots.build_forest_plot([better, best, worse])

    assert [mark["shown"] for mark in made["rows"]] == ["open", "gain", "loss"]


def test_the_better_of_the_two_is_asked_field_by_field():
    after = column("+" * 20 + "-" * 20)
    beside = {"constant": column("-" * 40), "base, constrained": column("+" * 20 + "-" * 20)}
    totals = {name: baselines.metrics.compute_totals(scores) for name, scores in beside.items()}

    found = baselines._beside("price.title", totals, beside, after)
    alone = baselines._beside("price.title", {"constant": totals["constant"]}, beside, after)

    assert (found["best"], found["points"], found["beats"]) == ("base, constrained", 0.0, False)
    assert (alone["best"], alone["points"], alone["beats"]) == ("constant", 50.0, True)


TITLE = frozenset({"price.title"})
BEFORE, AFTER = column("-" * 400, 4), column("+-" * 200, 4)


def test_the_gate_asks_for_more_than_a_constant_answer():
    def verdict(rival, rules=None):
        beside = {"constant": rival} if rival else {}
        checks = gate.decide_gate(Evidence(BEFORE, AFTER, TITLE, rivals=beside), rules or Policy())
        return {c.name: c.verdict for c in checks.checks}.get("against constant")

    assert verdict(column("-" * 400, 4)) == PASS
    assert verdict(column("+-" * 200, 4)) == FAIL
    assert verdict(column("-" * 400, 4), Policy(rivals="off")) is None
    assert verdict(None) is None


def test_the_gate_of_a_project_knows_its_rivals(project):
    answer(project, lambda n, wanted: wanted, "constrained")
    asked = gate_inputs.GateRequest(project, BASE, BASE, "test", None)

    case = gate_inputs.decide_request(asked)

    assert "against base, constrained" in [check.name for check in case.verdict.checks]
    held = project.reports / "base" / "answers.test.constrained.jsonl"
    assert case.rests_on["answers"]["base, constrained"] == files.sha256_file(held)


def test_the_untouched_model_may_always_be_held_to_the_form(project):
    held = Project.load("toy", ["eval.base_decoding=constrained"])
    asked = Project.load("toy", ["eval.base_decoding=same", "eval.decoding=free"])

    names = [
        subject.resolve_subject(one, BASE, "test", None).book.path.name for one in (held, asked)
    ]

    assert names == ["answers.test.constrained.jsonl", "answers.test.jsonl"]
    assert baselines.constrained_base(
        subject.resolve_subject(asked, BASE, "test", None)
    ).book.path.name == ("answers.test.constrained.jsonl")


def test_equal_sides_name_the_first():
    same = column("+-")

    assert paired_stats.best_of({"b": same, "a": same}, "accuracy") == "b"
    assert paired_stats.best_of({"b": column("--"), "a": same}, "accuracy") == "a"
    assert paired_stats.best_of({}, "accuracy") is None
