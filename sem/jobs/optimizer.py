"""The jobs of `optimizer.*`: a small network that rewrites vague prompts."""

from pathlib import Path
from typing import Annotated

from sem.core import console, files, jsonio, projects, provenance
from sem.jobs.job import Overrides, Positional, job

OptimizerRun = Annotated[
    str | None, "a trained optimizer (default: the promoted one, else the newest)"
]
AnsweringModel = Annotated[
    str | None,
    "the model that answers them: weights (a name, pip:…, a folder, org/name@COMMIT), `local` "
    "(fab forge.serve), provider/model@http://HOST:PORT/v1, or provider/model "
    "(default: smollm2-135m-instruct)",
]


@job("optimizer.data")
def write_optimizer_pairs(
    also: Annotated[
        tuple[Path, ...], "further training pairs, triplets or distillation pairs"
    ] = (),
    set: Overrides = (),
) -> None:
    """Write the prompt optimizer's pairs: vague prompts and good ones, split by task family.

        fab optimizer.data
        fab optimizer.data --also mine.json --set data.phrasings=6

    Reads   configs/optimizer/{data,phrasings}.yaml, configs/optimizer/families/*.yaml,
            data/optimizer/feedback.jsonl (edited prompts with a success_score of 0.5 or more)
    Writes  data/optimizer/{train,val,test,triplets,distillation,data}.json
    """
    from sem.optimizer.data import optimizer_data

    root = projects.project_tree()
    settings = optimizer_data.pair_settings(root, list(set))
    with files.lock_file(root / optimizer_data.FOLDER / ".data.lock", "the optimizer's data"):
        pairs = optimizer_data.build_pairs(root, settings, list(also))
        path = optimizer_data.save_pairs(root, pairs, settings)
    columns = ("part", "pairs", "distinct subjects", "families", "categories")
    rows = [(name, *counts.values()) for name, counts in pairs.counts().items()]
    console.print_table("pairs", columns, rows)
    for reason, count in sorted(pairs.left_out.items()):
        console.print_note(f"left out: {count} {reason}")
    console.print_output_path(path)


@job("optimizer.train")
def train_optimizer(
    promote: Annotated[bool, "serve this run from now on"] = False, set: Overrides = ()
) -> None:
    """Train the prompt optimizer: LoRA on a frozen T5, then calibrate its confidence.

        fab optimizer.train
        fab optimizer.train --set train.recipe.epochs=1 --promote

    A killed run goes on from its last checkpoint with the same command.

    Reads   configs/optimizer/train.yaml, data/optimizer/{train,val}.json
    Writes  models/optimizer/RUN/{run.json,adapter/,calibration.json,manifest.json}
    """
    from sem.optimizer.data import optimizer_data
    from sem.optimizer.model import optimizer_train

    root = projects.project_tree()
    settings = optimizer_train.optimizer_train_settings(root, list(set))
    train, val = optimizer_data.load_pairs(root, "train"), optimizer_data.load_pairs(root, "val")
    folder = optimizer_train.run_optimizer_training(root, settings, train, val)
    if promote:
        optimizer_train.promote_optimizer(root, folder.name)
    console.print_output_path(folder)


@job("optimizer.rewrite")
def rewrite_prompts(
    prompt: Annotated[tuple[str, ...], "a prompt to rewrite", Positional("PROMPT")],
    name: OptimizerRun = None,
    max_tokens: Annotated[int, "of a rewrite"] = 256,
    temperature: Annotated[float, "0: the likeliest text (default); above 0: drawn"] = 0.0,
    beams: Annotated[int, "of the search; 1: greedy"] = 1,
    seed: Annotated[int, "of what is drawn"] = 0,
    penalty: Annotated[float, "of saying a token again; 1: none"] = 1.05,
    json: Annotated[bool, "one JSON object a line"] = False,
) -> None:
    """Rewrite vague prompts with the trained network, and say how likely each is useful.

        fab optimizer.rewrite "write a function that parses dates"
        fab optimizer.rewrite "plan a trip" --temperature 0.7 --seed 3 --json

    Reads   models/optimizer/RUN/
    """
    from sem.optimizer.model import confidence, rewriter

    root = projects.project_tree()
    folder = rewriter.find_optimizer(root, name)
    network, worth = rewriter.TorchRewriter.load(folder, root), confidence.load_calibration(folder)
    decoding = rewriter.Decoding(max_tokens, temperature, beams, seed, penalty)
    rewrites = network.rewrite(list(prompt), decoding)
    for raw, rewrite in zip(prompt, rewrites, strict=True):
        sure = confidence.rewrite_confidence(rewrite, raw, worth)
        if json:
            print(jsonio.canonical_json({"raw_prompt": raw, "confidence": sure, **vars(rewrite)}))
        else:
            print(f"{rewrite.text}\n")
            console.print_note(f"confidence {sure:.2f}, {rewrite.tokens} tokens")


@job("optimizer.eval")
def evaluate_optimizer(
    name: OptimizerRun = None,
    rows: Annotated[int, "prompts of a set, at most"] = 120,
    pairs: Annotated[Path | None, "also a file of real prompts, for evaluation only"] = None,
    questions: Annotated[
        Path | None, "also prompts and answers: is a rewritten prompt answered better?"
    ] = None,
    answer_with: AnsweringModel = None,
    judge: Annotated[bool, "also ask the model of configs/judge.yaml"] = False,
    seed: Annotated[int, "of which prompts"] = 42,
) -> None:
    """Compare the trained network with its untouched base on held-out families, with intervals.

        fab optimizer.eval
        fab optimizer.eval --rows 60 --pairs pairs.jsonl
        fab optimizer.eval --questions golden_set.json --answer-with local --judge

    The file of --pairs: JSON lines with `id` and `vague` (or `raw_prompt`, `input`); they are only
    ever evaluated on. The file of --questions: JSON lines, or a golden set (.json), of a prompt
    and its answer; a model answers them as they are and as rewritten. --judge sends prompts,
    rewrites and answers to the models of configs/judge.yaml. The model that measures closeness
    comes by `fab env.weights --name all-minilm-l6-v2`.

    Reads   models/optimizer/RUN/, data/optimizer/test.json, the files, configs/judge.yaml
    Writes  reports/optimizer/RUN/{report.md,rewrites.jsonl,answers.jsonl,scores.json}
    """
    from sem.optimizer.eval import trial
    from sem.optimizer.model import rewriter

    root = projects.project_tree()
    request = trial.TrialOptions(rows, pairs, seed, questions, answer_with, judge)
    result = trial.run_trial(
        root, rewriter.find_optimizer(root, name), request, provenance.utc_now()
    )
    for title, columns, table in result.tables:
        console.print_table(title, columns, table)
    console.print_output_path(result.page)
    if result.stopped:
        raise result.stopped


@job("optimizer.serve")
def serve_optimizer(name: OptimizerRun = None, set: Overrides = ()) -> None:
    """Serve the prompt optimizer here: an HTTP API and a page, until Ctrl-C or SIGTERM.

        fab optimizer.serve
        fab optimizer.serve --name RUN --set serve.port=8001

    It answers 503 until a trained optimizer is loaded, and loads one as soon as there is one.

    Reads   configs/optimizer/serve.yaml, models/optimizer/RUN/, $SEM_API_KEY
    Writes  models/optimizer/RUN/fast/ (once), data/optimizer/feedback.jsonl, JSON lines on stderr
    """
    from sem.optimizer.server import app, config

    root = projects.project_tree()
    settings = config.load_serve_settings(root, tuple(set))
    app.serve_http(settings, root, name, lambda address: print(address, flush=True))
