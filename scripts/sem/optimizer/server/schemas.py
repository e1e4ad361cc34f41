"""The requests and replies of docs/optimizer.md as pydantic models, bounded by the settings."""

from types import SimpleNamespace
from typing import Annotated, Any

from sem.optimizer.server.config import ServeSettings

EXAMPLE = "write a function that reads a csv file"


def build(config: ServeSettings) -> Any:
    """The models, as attributes; fields that a client sends beyond them are ignored."""
    from pydantic import BaseModel, ConfigDict, Field

    class Model(BaseModel):
        model_config = ConfigDict(extra="ignore", allow_inf_nan=False)

    Prompt = Annotated[str, Field(min_length=1, max_length=config.max_chars)]
    Length = Annotated[
        int,
        Field(strict=True, ge=1, le=config.max_length, description="most output tokens"),
    ]
    Temperature = Annotated[
        float, Field(strict=True, ge=0, le=2, description="0: greedy, the same text each time")
    ]
    Text = Annotated[str, Field(min_length=1, max_length=4 * config.max_chars)]
    Share = Annotated[float, Field(strict=True, ge=0, le=1)]

    class OptimizeRequest(Model):
        raw_prompt: Annotated[Prompt, Field(examples=[EXAMPLE])]
        max_length: Length = config.max_length
        temperature: Temperature = 0.7
        stream: bool = False

    class OptimizeReply(Model):
        optimized_prompt: str
        confidence: Share

    class BatchRequest(Model):
        prompts: Annotated[
            list[Prompt],
            Field(min_length=1, max_length=config.max_prompts, examples=[[EXAMPLE]]),
        ]
        max_length: Length = config.max_length
        temperature: Temperature = 0.7

    class BatchReply(Model):
        optimized_prompts: list[str]
        confidences: list[Share]

    class FeedbackRequest(Model):
        raw_prompt: Prompt
        edited_prompt: Text
        success_score: Share
        optimized_prompt: Annotated[Text | None, Field(description="what was edited")] = None

    class FeedbackReply(Model):
        success: bool
        message: str

    class RulesReply(Model):
        rules: list[str]
        note: str

    class HealthReply(Model):
        model_config = ConfigDict(protected_namespaces=())
        status: str
        model_loaded: bool
        device: str
        model_type: str
        approach: str
        model: str | None
        waiting: int

    class ErrorReply(Model):
        model_config = ConfigDict(extra="allow")
        detail: Annotated[str, Field(description="a sentence to show")]
        reason: Annotated[str, Field(description="a word to program against")]
        request_id: str

    return SimpleNamespace(
        OptimizeRequest=OptimizeRequest, OptimizeReply=OptimizeReply, BatchRequest=BatchRequest,
        BatchReply=BatchReply, FeedbackRequest=FeedbackRequest, FeedbackReply=FeedbackReply,
        RulesReply=RulesReply, HealthReply=HealthReply, ErrorReply=ErrorReply,
    )  # fmt: skip
