"""forge.chunks: what documents become, and what is in no chunk; nobody is asked."""

from datetime import UTC, datetime

import handbook
import papers
import pytest
from paths import SCRIPTS

from sem.core import files
from sem.core.errors import SemError
from sem.core.project import Project
from sem.dataset.clean import clean
from sem.forge.run import forge_job, forge_run, survey
from sem.jobs import load_jobs

AT = datetime(2026, 11, 21, tzinfo=UTC)
SCRIPT = SCRIPTS / "forge_chunks.py"
NOBODY = "http://127.0.0.1:9/v1"


@pytest.fixture
def project(tmp_path, monkeypatch):
    monkeypatch.setenv("SEM_ROOT", str(tmp_path))
    handbook.make(tmp_path, NOBODY, documents=3)
    raw = tmp_path / "data" / "handbook" / "raw"
    (raw / "scan.pdf").write_bytes(papers.pdf("", ""))
    (raw / "rules.docx").write_bytes(papers.docx("# Rules", *["Nobody smokes here. " * 9] * 4))
    (raw / "short.txt").write_text("Hello.")
    return Project.load("handbook")


def setting(project, text):
    (project.configs / "forge.yaml").write_text(text)


def test_every_character_and_every_skip_is_told(project):
    found = survey.survey_documents(project)
    (totals,) = found.total_rows()

    assert [row[0] for row in found.document_rows()] == [
        "00-owners.md",
        "01-borrowing.md",
        "02-slices.md",
        "rules.docx",
        "short.txt",
    ]
    assert all(row[-1] == 0 for row in found.document_rows())
    assert (totals[0], totals[1], totals[-1]) == (5, 1, "100.0 %")
    assert found.skip_rows() == [
        ("pdf_without_text", "file", 1, "scan.pdf"),
        ("short", "chunk", 1, "short.txt"),
    ]


def test_the_script_prints_tables_and_writes_the_chunks(project, capsys):
    load_jobs()["forge.chunks"].call(["--sem", "handbook"])

    said = capsys.readouterr().out
    rows = list(files.read_rows(project.processed / "forge" / "chunks.jsonl"))
    skips = list(files.read_rows(project.processed / "forge" / "skipped.chunks.jsonl"))
    assert "100.0 %" in said
    assert said.rstrip().endswith("chunks.jsonl")
    assert {row["document"] for row in rows} > {"rules.docx", "00-owners.md"}
    assert [skip["reason"] for skip in skips] == ["pdf_without_text", "short"]


def test_a_forge_that_makes_no_chunks_is_said(project):
    setting(project, "forge_class: sem.forge.kinds.table.TableForge\n")
    with pytest.raises(SemError) as found:
        survey.survey_documents(project)

    assert found.value.message == "sem.forge.kinds.table.TableForge makes no chunks of documents"


def test_a_table_becomes_examples_end_to_end_without_a_teacher(project):
    raw = project.root / "data" / "handbook" / "raw"
    lines = [f"2026-{m:02}-{d:02},s{d % 3},{m * d}.5" for m in range(1, 11) for d in range(1, 13)]
    (raw / "sales.csv").write_text("day,shop,sales\n" + "\n".join(lines) + "\n")
    setting(project, "forge_class: sem.forge.kinds.table.TableForge\n")
    prepared = forge_run.prepare_forge(project, forge_job.ForgeOptions(), AT)
    forged = forge_run.finish_forge(
        prepared, forge_run.run_forge(prepared), clean.CleaningOptions(today="2026-11-21")
    )

    assert (prepared.plan.calls, forged.rows["added"]) == (0, 60)
    assert sum(forged.parts.values()) == 60
    parts = [list(files.read_rows(project.processed / f"{n}.jsonl")) for n in ("train", "test")]
    sources = [{row["source_id"] for row in rows} for rows in parts]
    assert parts[1]
    assert not sources[0] & sources[1]
