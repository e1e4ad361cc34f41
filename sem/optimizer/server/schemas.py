"""The requests and replies of docs/optimizer.md as pydantic models, bounded by the settings."""

from types import SimpleNamespace
from typing import Annotated, Any

from sem.optimizer.server.config import ServeSettings

EXAMPLE = "write a function that reads a csv file"


def build_schemas(config: ServeSettings) -> Any:
    """Return the models, as attributes; fields that a client sends beyond them are ignored."""
    return SimpleNamespace(**_requests(config), **_feedback(config), **_replies())


def _model() -> Any:
    from pydantic import BaseModel, ConfigDict

    class Model(BaseModel):
        model_config = ConfigDict(extra="ignore", allow_inf_nan=False, protected_namespaces=())

    return Model


def _share() -> Any:
    from pydantic import Field

    return Annotated[float, Field(strict=True, ge=0, le=1)]


def _prompt(config: ServeSettings) -> Any:
    from pydantic import Field

    return Annotated[str, Field(min_length=1, max_length=config.max_chars, examples=[EXAMPLE])]


def _requests(config: ServeSettings) -> dict[str, Any]:
    from pydantic import Field

    length = Field(strict=True, ge=1, le=config.max_length, description="most output tokens")
    heat = Field(strict=True, ge=0, le=2, description="0: greedy, the same text each time")
    several = Field(min_length=1, max_length=config.max_prompts)
    Prompt, Model = _prompt(config), _model()

    class Decoded(Model):
        max_length: Annotated[int, length] = config.max_length
        temperature: Annotated[float, heat] = 0.7

    class OptimizeRequest(Decoded):
        raw_prompt: Prompt
        stream: bool = False

    class BatchRequest(Decoded):
        prompts: Annotated[list[Prompt], several]

    return {"OptimizeRequest": OptimizeRequest, "BatchRequest": BatchRequest}


def _feedback(config: ServeSettings) -> dict[str, Any]:
    from pydantic import Field

    Prompt, Share, Model = _prompt(config), _share(), _model()
    Text = Annotated[str, Field(min_length=1, max_length=4 * config.max_chars)]

    class FeedbackRequest(Model):
        raw_prompt: Prompt
        edited_prompt: Text
        success_score: Share
        optimized_prompt: Annotated[Text | None, Field(description="what was edited")] = None

    class FeedbackReply(Model):
        success: bool
        message: str

    return {"FeedbackRequest": FeedbackRequest, "FeedbackReply": FeedbackReply}


def _replies() -> dict[str, Any]:
    from pydantic import ConfigDict, Field

    Share, Model = _share(), _model()

    class OptimizeReply(Model):
        optimized_prompt: str
        confidence: Share

    class BatchReply(Model):
        optimized_prompts: list[str]
        confidences: list[Share]

    class RulesReply(Model):
        rules: list[str]
        note: str

    class HealthReply(Model):
        status: str
        model_loaded: bool
        device: str
        model_type: str
        approach: str
        model: str | None
        waiting: int
        cure: Annotated[str | None, Field(description="what helps where no model is loaded")]

    class ErrorReply(Model):
        model_config = ConfigDict(extra="allow")
        detail: Annotated[str, Field(description="a sentence to show")]
        reason: Annotated[str, Field(description="a word to program against")]
        request_id: str

    replies = (OptimizeReply, BatchReply, RulesReply, HealthReply, ErrorReply)
    return {reply.__name__: reply for reply in replies}
