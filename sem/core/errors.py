"""What a user can fix.

SemError            exit 1: bad input, failed check
├── Busy            exit 1: another process holds what is needed
└── Insufficient    exit 3: not enough evidence to decide
Anything else that escapes is a bug and keeps its traceback.
"""

# Package as it is imported -> the extra that installs it. The base has what every job needs.
EXTRAS = {
    **dict.fromkeys(("torch", "transformers", "trl", "peft", "accelerate", "datasets"), "train"),
    **dict.fromkeys(("safetensors", "gguf", "onnx", "huggingface_hub", "llguidance"), "train"),
    **dict.fromkeys(("fastapi", "starlette", "uvicorn", "prometheus_client"), "serve"),
    **{"ctranslate2": "serve", "litellm": "judge", "ray": "cluster", "optuna": "sweep"},
    **dict.fromkeys(("pypdf", "mammoth", "py3langid"), "documents"),
    **{"wandb": "track", "mlflow": "mlflow", "xllamacpp": "local", "unsloth": "gpu"},
    **{"mcp": "mcp", "model_signing": "publish", "boto3": "publish"},
}


class SemError(Exception):
    """A fault a person can fix: `message` says what and where, `hint` what to do."""

    exit_code = 1

    def __init__(self, message: str, hint: str) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message}\n       {self.hint}"


class Busy(SemError):
    """Another process is writing the same thing."""


class Insufficient(SemError):
    """The evidence does not decide; more rows or domains are needed."""

    exit_code = 3


def suggest_nearest_name(word: str, candidates: object) -> str:
    """Return a hint that names the closest of `candidates`, or lists them when none is close."""
    from difflib import get_close_matches

    names = sorted(str(name) for name in candidates)  # type: ignore[attr-defined]
    close = get_close_matches(word, names, n=1, cutoff=0.5)
    return f"did you mean {close[0]!r}?" if close else f"one of: {', '.join(names)}"


def missing_package(error: ModuleNotFoundError) -> SemError | None:
    """Return what to tell a person whose installation lacks an extra; None for another module."""
    package = (error.name or "").partition(".")[0]
    extra = EXTRAS.get(package)
    if extra is None:
        return None
    return SemError(
        f"this job needs {package}, which is not installed here",
        f"pip install 'opensem[{extra}]'; in a checkout run ./scripts/setup_env.sh",
    )
