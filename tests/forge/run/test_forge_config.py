"""forge.yaml, and the older data_config.yaml where there is none."""

import pytest

from sem.core.errors import SemError
from sem.core.project import Project
from sem.forge.checks.pair_quality import Quality
from sem.forge.run import config
from sem.forge.run.config import ForgeSettings


def project(tmp_path, overrides=(), **files):
    folder = tmp_path / "configs" / "x"
    folder.mkdir(parents=True)
    for name, text in files.items():
        (folder / f"{name}.yaml").write_text(text, "utf-8")
    return Project("x", tmp_path, tuple(overrides))


def test_no_file_means_the_defaults(tmp_path):
    assert config.load_forge_config(project(tmp_path)) == config.LoadedForgeSettings(
        ForgeSettings()
    )


def test_a_preset_may_be_a_bare_word(tmp_path):
    made = config.load_forge_config(
        project(tmp_path, forge="teacher: cheap\npairs_per_chunk: 5\n")
    ).settings

    assert made.teacher.preset == "cheap"
    assert made.pairs_per_chunk == 5


@pytest.mark.parametrize("code", ["klingon", "EN", "no", "e"])
def test_a_language_that_no_text_is_found_to_be_in_is_refused(code):
    for where, build in (("language", ForgeSettings), ("quality.language", Quality)):
        with pytest.raises(SemError) as found:
            build(language=code)
        assert found.value.message == f"{where}: {code!r} is not an ISO 639-1 code"


def test_overrides_win(tmp_path):
    made = config.load_forge_config(
        project(tmp_path, ["forge.seed=7"], forge="seed: 1\n")
    ).settings

    assert made.seed == 7


def test_the_older_file_is_read_where_there_is_none_and_every_change_is_said(tmp_path):
    older = (
        "forge_class: opensem.forge.TextForge\nraw_data_dir: data/x/raw\n"
        "processed_data_dir: data/x/processed\nparams:\n  teacher_model: gpt-4o-mini\n"
        "  chunk_size: 5000\n  max_chars_per_doc: 10000\n"
    )
    made = config.load_forge_config(project(tmp_path, data_config=older))

    assert made.settings.forge_class == "sem.forge.kinds.text.TextForge"
    assert made.settings.params == {
        "chunks": {"max_chars": 5000},
        "max_chars_per_document": 10000,
    }
    assert made.settings.teacher.model == "openai/gpt-4o-mini"
    assert made.settings.raw == "data/x/raw"
    assert made.notes == (
        "data_config.yaml is read, as there is no forge.yaml",
        "params.teacher_model gpt-4o-mini is teacher.model openai/gpt-4o-mini",
        "params.chunk_size 5000 is params.chunks.max_chars",
        "params.max_chars_per_doc 10000 is params.max_chars_per_document: what stands beyond it "
        "is counted as skipped",
        "raw_data_dir data/x/raw is raw",
        "processed_data_dir is not read: results go to data/SEM/processed",
        "forge_class opensem.forge.TextForge is sem.forge.kinds.text.TextForge here",
    )


def test_a_forge_of_ones_own_keeps_the_params_it_knows(tmp_path):
    older = "forge_class: mine.forges.Pii\nparams: {teacher_model: m, chunk_size: 9}\n"

    made = config.load_forge_config(project(tmp_path, data_config=older)).settings

    assert made.params == {"teacher_model": "m", "chunk_size": 9}
    assert made.forge_class == "mine.forges.Pii"


def test_forge_yaml_wins_over_the_older_file(tmp_path):
    made = config.load_forge_config(project(tmp_path, forge="seed: 3\n", data_config="seed: 4\n"))

    assert (made.settings.seed, made.notes) == (3, ())


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("teachr: cheap\n", "unknown key 'teachr'"),
        ("pairs_per_chunk: 0\n", "pairs_per_chunk: 0"),
        ("quality: {near_treshold: 1}\n", "unknown key 'quality.near_treshold'"),
        ("teacher: {modle: x}\n", "unknown key 'teacher.modle'"),
    ],
)
def test_a_key_that_does_not_fit_is_named(text, message, tmp_path):
    with pytest.raises(SemError) as found:
        config.load_forge_config(project(tmp_path, forge=text))

    assert message in found.value.message


def test_sources_may_not_lie_outside_the_tree(tmp_path):
    with pytest.raises(SemError, match="is not below"):
        config.raw_folder(project(tmp_path), ForgeSettings(raw="../elsewhere"))

    assert config.raw_folder(Project("x", tmp_path), ForgeSettings()).parts[-3:] == (
        "data",
        "x",
        "raw",
    )
