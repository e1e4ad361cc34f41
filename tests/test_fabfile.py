"""Jobs: listed at once, named as the plan names them, and deaf to hostile arguments."""

import importlib.util
import json
import os
import random
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from fabric import Connection
from fabric.main import make_program
from hypothesis import given, settings
from hypothesis import strategies as st
from invoke import Context, Exit
from paths import ROOT


def load():
    spec = importlib.util.spec_from_file_location("fabfile", ROOT / "fabfile.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


fabfile = load()
import fabjobs  # noqa: E402 - fabfile.py puts its folder on the path
from sem.jobs import load_jobs  # noqa: E402
from sem.jobs.reference import reference_page  # noqa: E402

ON_HOSTS = [f"train.{name}" for name in ("run", "resume", "attach", "status", "cancel", "pull")]
JOBS = [
    *("check", "demo", "demo.data", "pipeline", "env.weights", "env.check"),
    *("dataset.import", "dataset.clean", "dataset.split", "dataset.stats"),
    *("dataset.migrate", "dataset.takedown", "ops.backfill"),
    *("train.prepare", "eval.generate", "eval.report", *ON_HOSTS),
    *("package.export", "package.verify", "ops.project_tokens"),
    *("sem.new", "sem.list", "sem.status", "sem.use", "sem.add_data", "sem.delete"),
]


def fab(*words: str, cwd: Path = ROOT) -> subprocess.CompletedProcess:
    """Return `fab WORDS`; what is only shown does not depend on a developer's current project."""
    argv = [str(Path(sys.executable).parent / "fab"), *words]
    tree = {"SEM_ROOT": str(ROOT / "tests")} if "--dry" in words else {}
    return subprocess.run(
        argv,
        cwd=cwd,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        env={**{n: v for n, v in os.environ.items() if n != "SEM"}, **tree},
    )


@pytest.mark.parametrize("job", JOBS)
def test_every_job_of_the_plan_is_listed_under_its_own_name(job):
    names = fabfile.ns.task_names
    assert job in {*names, *(alias for aliases in names.values() for alias in aliases)}


def test_the_list_shows_underscores_and_no_dashes():
    listed = fab("--list").stdout

    assert "ops.project_tokens" in listed
    assert "project-tokens" not in listed


@pytest.mark.parametrize("job", load_jobs().values(), ids=lambda job: job.name)
def test_a_job_has_a_script_of_its_name_and_nothing_else_is_a_script(job):
    if "." not in job.name and job.name != "pipeline":
        return  # a verb of `opensem`
    path = ROOT / "scripts" / f"{job.script}.py"
    run_it = f'if __name__ == "__main__":\n    run_job("{job.name}")\n'

    assert path.read_text() == f'"""{job.summary}"""\n\nfrom _run import run_job\n\n{run_it}'


def test_a_script_is_a_job():
    scripts = {path.stem for path in (ROOT / "scripts").glob("[a-z]*.py")}

    assert scripts <= {job.script for job in load_jobs().values()}


# What `fab --dry` prints for each job; the script's own parser must take it.
CALLS = [
    "dataset.import x.parquet --task t --only t --rename a=b --limit 5 --on-conflict skip",
    "dataset.import folder --map input_text=html --map meta.url=url --again",
    "dataset.pull --source h:/x --ssh-config c --task t --map id=a --on-conflict skip --replace",
    "dataset.export --format alpaca --out x.jsonl --split val --snapshot 3",
    "dataset.clean --tokens --engine ray --ray-address ray://h:10001 --set dataset.x=1",
    "dataset.split --set dataset.x=1",
    "dataset.augment --snapshot 3 --each 2 --seed 1 --kind shuffle --negatives 2",
    "dataset.stats --snapshot 3",
    "dataset.takedown --id a --id b --source s --domain d --person p --reason r --dry-run",
    "dataset.diff v1 v2 --acknowledge why --tokens",
    "dataset.migrate --dry-run",
    "ops.backfill --since v1 --per-minute 5 --dry-run",
    "train.prepare --snapshot 3 --device cuda:24 --set train.epochs=1 --set train.seed=2",
    "train.run --run r",
    "train.resume --run r",
    "train.run --run r --host me@h --detach --processes 2",
    "train.run --run r --processes 2 --ray-address h:6379",
    "train.attach --run r --host h",
    "train.status --host h",
    "train.cancel --run r --host h",
    "train.pull --run r --host h --checkpoints",
    "train.sweep --snapshot 3 --set sweep.points=2",
    "train.compare r1 r2 --also r3",
    "ops.launch --run r --cloud aws --gpu L4 --count 2 --spot --max-cost 5 --max-hours 2 --price",
    "eval.generate --run r --split val --snapshot 3 --set eval.batch=1",
    "eval.report --run r --split val --snapshot 3 --baseline base",
    "package.export --run r --target vllm",
    "package.verify --run r --path p --answers 5",
    "package.serve --run r --path p --engine llamacpp --host h --port 1 --capture c "
    "--set serve.max_batch=2",
    "ops.project_tokens --run r --split val --config c.yaml",
    "preview.run --data-path x --output-format json --output-file y --sample-size 5 --sem s "
    "--test-mode --random-seed 1 --seconds 9 --zk z --verbose --baseline-model m --save-model n "
    "--cache c --target number --set preview.min_points=2",
    "preview.validate x --zk-check --output-hash",
    "optimizer.data --also x --also y --set data.phrasings=2",
    "optimizer.train --promote --set train.recipe.epochs=1",
    "optimizer.rewrite x --name r --max-tokens 9 --temperature 0.7 --beams 1 --seed 2 "
    "--penalty 1.1 --json",
    "optimizer.eval --name r --rows 5 --pairs x --questions q --answer-with m --judge --seed 1",
    "optimizer.serve --name r --set serve.port=8001",
    "env.weights --name x",
    "env.check",
    "pipeline --set train.epochs=1",
    "sem.new x --template qa --base-model y --from-older",
    "sem.list",
    "sem.status",
    "sem.use x",
    "sem.add_data --files a.md --files b.md --replace",
    "sem.delete x --yes",
    "forge.run --dry-run --yes --limit 5 --allow-plugins --set forge.seed=1",
    "forge.chunks --allow-plugins --set forge.seed=1",
    "golden.add --file x.json --map question=q --keep --replace --task t",
    "golden.add --question q --answer a",
    "golden.check --language en",
    "forge.teacher --rows 5 --yes --set forge.seed=1",
    "forge.serve --model smollm2 --port 1 --context 512 --slots 2 --threads 1",
    "demo.data",
]


@pytest.mark.parametrize("call", CALLS)
def test_every_flag_of_a_job_is_one_that_its_script_takes(call):
    argv = shlex.split(re.sub(r"\x1b\[[0-9;]*m", "", fab("--dry", *call.split()).stdout))
    # --help after the flags: unknown flags fail first when the parser is asked to be strict.
    words = [*argv[:2], *argv[2:], "--definitely-unknown"]
    if "--" in words:
        words.remove("--")
    done = subprocess.run(words, capture_output=True, text=True, stdin=subprocess.DEVNULL)

    assert done.returncode == 2
    assert "unrecognized arguments: --definitely-unknown" in done.stderr


@pytest.mark.parametrize("words", [(), ("x",), ("x", "y")], ids=["none", "one", "two"])
@pytest.mark.parametrize("job", ["preview.run", "sem.new", "train.compare"])
def test_help_behind_a_job_shows_its_help_and_runs_nothing(job, words):
    # `fab preview.run --help` previewed a file called `--help`.
    done = fab(job, *words, "--help")

    assert done.returncode == 0, done.stderr
    assert f"Usage: fab [--core-opts] {job} " in done.stdout


@pytest.mark.parametrize("job", sorted(context.name for context in fabfile.ns.to_contexts()))
@pytest.mark.parametrize("flag", ["--help", "-h"])
def test_help_is_answered_for_every_job_before_it_is_read(job, flag, monkeypatch):
    program = make_program()
    program.parse_core(["fab", "--collection", "x", job, flag])
    monkeypatch.setattr(fabjobs, "fab", program)

    fabjobs.answer_help(fabfile.ns)

    assert (program.args.help.value, list(program.core.unparsed)) == (job, [])


def test_help_as_a_word_for_the_script_is_left_alone(monkeypatch):
    program = make_program()
    program.parse_core(["fab", "check"])
    monkeypatch.setattr(fabjobs, "fab", program)

    fabjobs.answer_help(fabfile.ns)

    assert list(program.core.unparsed) == ["check"]


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("train.prepare train.run --sem shop", ["shop", "shop"]),
        ("dataset.clean --sem shop dataset.split", ["shop", "shop"]),
        ("dataset.clean --sem shop dataset.split --sem text", ["shop", "text"]),
        ("dataset.clean eval.generate train.run --sem=shop", ["shop", "shop", "shop"]),
        ("eval.gate package.export -s shop", ["shop", "shop"]),
    ],
)
def test_the_sem_of_one_job_is_the_sem_of_the_whole_line(line, expected):
    # The first job worked on the current project, without a word.
    printed = fab("--dry", *line.split()).stdout

    assert re.findall(r"--sem=(\w+)", printed) == expected


def test_a_line_that_leaves_open_which_of_two_sems_a_job_means_runs_nothing():
    done = fab("--dry", "dataset.clean", "--sem=shop", "dataset.split", "--sem=text", "eval.gate")

    assert (done.returncode, done.stdout) == (2, "")
    assert "eval.gate: no --sem, and the line names several: shop, text" in done.stderr


def test_a_flag_that_holds_for_one_of_several_jobs_is_said():
    done = fab("--dry", "eval.generate", "eval.report", "--run", "r1")

    assert "note: eval.report --run does not hold for eval.generate" in done.stderr


@pytest.mark.parametrize("context", fabfile.ns.to_contexts(), ids=lambda context: context.name)
def test_fab_the_script_and_the_reference_page_say_the_same_of_a_job(context):
    # package.verify lacked --set, and `env.weights --list` printed Fabric's own list.
    if context.name == "check":
        return
    job = load_jobs()[context.name]
    page = (ROOT / "docs" / "reference" / "jobs.md").read_text("utf-8")
    section = page.partition(f"\n## {job.name}\n")[2].partition("\n## ")[0]
    script = " ".join(job.parser().format_help().split())
    helps = {
        argument.attr_name or argument.name: argument.help for argument in context.args.values()
    }

    assert job.summary in section
    for parameter in job.parameters:
        assert helps[parameter.name] == parameter.described
        assert " ".join(parameter.described.split()) in script
        assert parameter.described.replace("|", "\\|") in section


def test_the_reference_page_is_what_the_signatures_say():
    # python -m sem.jobs.reference > docs/reference/jobs.md
    page = (ROOT / "docs" / "reference" / "jobs.md").read_text("utf-8")

    assert page == reference_page()


def test_demo_is_the_job_that_writes_the_data_and_runs_the_whole_path():
    assert "demo_run.py" in fab("--dry", "demo").stdout


@pytest.mark.parametrize("job", [job for job in JOBS if job not in ON_HOSTS])
def test_a_host_is_refused_before_anything_is_connected(job):
    words = {"dataset.import": ["x"], "sem.add_data": ["--files", "x"]}
    named = ("sem.new", "sem.use", "sem.delete")
    extra = words.get(job, ["x"] if job in named else [])
    done = fab("-H", "nowhere.invalid", job, *extra)

    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.splitlines()[:2] == [
        "error: -H nowhere.invalid: this job runs on this machine only",
        f"       on a host run: {', '.join(ON_HOSTS)}; log in there for others",
    ]


@pytest.mark.parametrize("job", ON_HOSTS)
def test_a_job_for_a_host_is_a_script_here_that_gets_its_name(job):
    done = fab("--dry", "-H", "me@nowhere.invalid:2222", job)

    assert "--host=me@nowhere.invalid:2222" in done.stdout
    assert "/scripts/train_" in done.stdout


def test_a_host_named_like_an_option_stays_a_value_and_is_refused(tmp_path):
    canary = tmp_path / "canary"
    done = fab("-H", f"-oProxyCommand=touch {canary}", "train.status", "--sem", "demo")

    assert done.returncode == 1
    assert "is not [user@]host" in done.stderr
    assert not canary.exists()


def test_a_connection_is_refused_without_opening_it():
    connection = Connection("nowhere.invalid")

    with pytest.raises(Exit, match="this machine only"):
        fabjobs.execute(connection, "true")

    assert not connection.is_connected


def test_older_spellings_reach_the_same_script():
    line = fab("--dry", "eval.generate", "--split", "validation", "--run-id", "r1").stdout

    assert "eval_generate.py" in line
    assert "--run=r1 --split=validation" in line
    words = shlex.split(line.partition("eval_generate.py ")[2].partition("\x1b")[0])
    assert load_jobs()["eval.generate"].parser().parse_args(words).split == "val"
    assert "train_run.py --sem=demo --resume" in fab("--dry", "train.run", "--resume").stdout


@pytest.mark.parametrize("code", [1, 2, 3, 130])
def test_the_exit_code_of_a_script_is_the_exit_code_of_its_job(code):
    line = fabjobs.command([sys.executable, "-c", f"raise SystemExit({code})"], {})

    with pytest.raises(Exit) as caught:
        fabjobs.execute(Context(), line)

    assert caught.value.code == code


def test_a_killed_script_is_a_failed_job():
    line = fabjobs.command([sys.executable, "-c", "import os; os.kill(os.getpid(), 9)"], {})

    with pytest.raises(Exit) as caught:
        fabjobs.execute(Context(), line)

    assert caught.value.code == 137


def test_jobs_run_from_a_folder_below_the_root():
    assert "ops_project_tokens.py" in fab("--dry", "ops.project_tokens", cwd=ROOT / "tests").stdout


# --- hostile arguments ----------------------------------------------------------------------

PIECES = (
    *("'", '"', "`", "\\", "\n", "\r", "\t", " ", "$(touch CANARY)", "`touch CANARY`", ";"),
    *("; touch CANARY", "&& touch CANARY", "| touch CANARY", "> CANARY", "$HOME", "${IFS}", "!"),
    *("*", "?", "[a-z]", "{a,b}", "~", "#", "&", "(", ")", "<(touch CANARY)", "--help", "-c"),
    *(
        "-",
        "--",
        "=",
        "é",
        "日本",
        "\u202e",
        "\u2028",
        "\x1b[31m",
        "\x07",
        "\x7f",
        "%s",
        "{{",
        "a",
    ),
    *(
        "'; touch CANARY; '",
        '"; touch CANARY; "',
        "$'\\x00'",
        "\\\n",
        "<<EOF",
        "$((1/0))",
        "\udce9",
    ),
)
PER_CALL = 50


def hostile(count: int, seed: int = 0) -> list[str]:
    """Return `count` strings of one to six pieces a shell reads something into."""
    pick = random.Random(seed)
    made = list(PIECES)
    while len(made) < count:
        made.append("".join(pick.choices(PIECES, k=pick.randint(1, 6))))
    return made


@pytest.fixture(scope="module")
def arrived(tmp_path_factory):
    """A function that sends values through the helper and a real bash, and returns what came."""
    folder = tmp_path_factory.mktemp("shell")
    echo = folder / "echo.py"
    echo.write_text(
        "import json, os, sys\nprint(json.dumps([os.fsencode(a).hex() for a in sys.argv[1:]]))\n"
    )

    def send(flags: dict, words: tuple = ()) -> list[bytes]:
        line = fabjobs.command([sys.executable, "-S", str(echo)], flags, words)
        done = subprocess.run(["bash", "-c", line], cwd=folder, capture_output=True, check=True)
        assert sorted(path.name for path in folder.iterdir()) == ["echo.py"], "a canary appeared"
        return [bytes.fromhex(word) for word in json.loads(done.stdout)]

    return send


def test_2000_hostile_values_arrive_byte_for_byte(arrived):
    values = hostile(2_000)
    for start in range(0, len(values), PER_CALL):
        batch = values[start : start + PER_CALL]
        expected = [f"--set={value}".encode("utf-8", "surrogateescape") for value in batch]

        assert arrived({"set": batch}) == expected


def test_hostile_words_arrive_behind_a_double_dash(arrived):
    batch = hostile(200, seed=1)
    expected = [b"--", *(word.encode("utf-8", "surrogateescape") for word in batch)]

    assert arrived({}, tuple(batch)) == expected


@settings(max_examples=60, deadline=None)
@given(st.lists(st.text(st.characters(exclude_categories=["Cs"]), max_size=80), max_size=40))
def test_any_text_arrives_or_is_refused(arrived, values):
    if any("\0" in value for value in values):
        with pytest.raises(Exit, match="NUL"):
            fabjobs.command(["true"], {"set": values})
    else:
        assert arrived({"set": values}) == [f"--set={value}".encode() for value in values]


def test_what_no_shell_can_carry_is_refused():
    for value in ("a\0b", "\ud800"):
        with pytest.raises(Exit, match="NUL or is not text"):
            fabjobs.command(["true"], {"run": value})
    with pytest.raises(Exit, match="too long"):
        fabjobs.command(["true"], {"run": "x" * 200_000})


def test_the_jobs_build_no_command_of_their_own():
    source = "".join(path.read_text() for path in ROOT.glob("fab*.py"))

    for forbidden in ('run(f"', "run(f'", "env=", ".cd(", ".prefix(", ".sudo(", "os.system"):
        assert forbidden not in source


def test_the_list_of_a_job_is_its_own_and_not_fabs():
    # `fab env.weights --list` printed the jobs.
    shown = fab("env.weights", "--list")

    assert shown.returncode == 0, shown.stderr
    assert "gemma-3-270m" in shown.stdout
    assert "env.check" not in shown.stdout


def test_a_setting_of_no_file_ends_the_fab_command_with_an_error():
    # It was ignored, with exit 0.
    shown = fab("dataset.clean", "--sem", "pages", "--set", "nosuch.x=1")

    assert shown.returncode == 1
    assert "error: --set 'nosuch.x=1': there is no settings file 'nosuch'" in shown.stderr
