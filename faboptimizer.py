"""The jobs of optimizer.*: a small network that rewrites vague prompts."""

from fabric import task

from fabjobs import SET, project_script

NAME = {"name": "a trained optimizer (default: the promoted one, else the newest)"}
REWRITE = NAME | {
    "max_tokens": "of a rewrite (default: 256)",
    "temperature": "0: the likeliest text (default); above 0: drawn",
    "beams": "of the search; 1: greedy (default)",
    "seed": "of what is drawn (default: 0)",
    "penalty": "of saying a token again; 1: none (default: 1.05)",
    "json": "one JSON object a line",
}
EVAL = NAME | {
    "rows": "held-out prompts at most (default: 120)",
    "pairs": "also a file of real prompts, for evaluation only",
    "questions": "also a file of prompts and answers: is a rewritten prompt answered better?",
    "answer_with": "the model that answers them: weights, local, or provider/model@ADDRESS",
    "judge": "also ask the model of configs/judge.yaml",
    "seed": "of which prompts (default: 42)",
}


@task(help={"also": "further pairs, triplets or distillation pairs (repeatable)"} | SET,
      iterable=["also", "set"])  # fmt: skip
def optimizer_data(c, also=None, set=None):
    """Write the pairs, split by task family; feedback and further files are taken in."""
    project_script(c, "optimizer_data", also=also, set=set)


@task(help={"promote": "serve this run from now on"} | SET, iterable=["set"])
def optimizer_train(c, promote=False, set=None):
    """Train the LoRA on a frozen T5 and calibrate its confidence."""
    project_script(c, "optimizer_train", promote=promote, set=set)


@task(help=REWRITE)
def optimizer_rewrite(
    c, prompt, name=None, max_tokens=None, temperature=None, beams=None, seed=None, penalty=None,
    json=False,
):  # fmt: skip
    """Rewrite one prompt with the trained network."""
    flags = {"name": name, "max_tokens": max_tokens, "temperature": temperature, "beams": beams}
    project_script(c, "optimizer_rewrite", prompt, seed=seed, penalty=penalty, json=json, **flags)


@task(help=EVAL)
def optimizer_eval(
    c, name=None, rows=None, pairs=None, questions=None, answer_with=None, judge=False, seed=None
):
    """Compare the trained network with its untouched base, with intervals."""
    flags = {"questions": questions, "answer_with": answer_with, "judge": judge}
    project_script(c, "optimizer_eval", name=name, rows=rows, pairs=pairs, seed=seed, **flags)


@task(help=NAME | SET, iterable=["set"])
def optimizer_serve(c, name=None, set=None):
    """Serve the HTTP API and its page on this machine."""
    project_script(c, "optimizer_serve", name=name, set=set)
