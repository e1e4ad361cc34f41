"""`renderer: plan` from the recipe to the package: trained, answered, served in one way."""

import pytest

from sem.core import files
from sem.core.project import Project
from sem.core.run import BASE
from sem.eval.answers import subject
from sem.eval.report import compare, report
from sem.lm.local import chat
from sem.package.export import bundle
from sem.package.verify import verify
from sem.train.run import plan

PLAN = ["train.renderer=plan"]
SHORT = ["train.val_answers=0", "train.max_train_examples=8"]


@pytest.fixture
def packaged(cut_toy):
    """The toy project in the plan's turns, through the whole loop: (project, run, folder)."""
    project = Project.load("toy", [*PLAN, *SHORT])
    made = plan.prepare_training(project, None)
    plan.train_prepared(project, made, resume=False)
    # From here on the run alone says how it was trained: train.yaml does not.
    plain = Project.load("toy")
    for named in (BASE, made.id):
        subject.answer_subject(subject.resolve_subject(plain, named, "test", None))
    found = compare.comparison_scores(compare.read_comparison(plain, made.id, BASE, "test", None))
    report.write_report(plain.reports / made.id, found)
    return plain, made, bundle.build_package(plain, made, [])


@pytest.mark.slow
def test_a_package_answers_in_the_turns_it_was_trained_in(packaged) -> None:
    project, made, folder = packaged
    assert verify.package_faults(folder) == []
    proven = subject.resolve_subject(project, made.id, "test", None)
    equal, asked = verify.answers_again(proven, folder, 100)
    assert (equal, asked) == (len(proven.examples), len(proven.examples))
    served = chat.load_chat(folder / "model")
    assert served.fingerprint() == made.plan()["renderer"] == proven.renderer
    assert served.prompt_text("s", "u").endswith("<|im_start|>assistant: ")

    template = files.read_text(folder / "Modelfile").split('"""')[1]
    said = template.replace("{{ .System }}", "s").replace("{{ .Prompt }}", "u")
    # The page alone is sent: the instruction is part of the template.
    user = proven.tasks["price"].prompt("u")
    assert said == chat.load_chat(folder / "model").prompt_text("s", user)


def test_the_untouched_model_is_asked_as_the_next_run_would_be(cut_toy) -> None:
    plain = subject.resolve_subject(cut_toy, BASE, "test", None)
    other = subject.resolve_subject(Project.load("toy", PLAN), BASE, "test", None)
    assert plain.renderer == plain.speaker.fingerprint()
    assert other.renderer == other.speaker.fingerprint() != plain.renderer
