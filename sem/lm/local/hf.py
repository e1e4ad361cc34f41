"""The Transformers generator: greedy, batched, left-padded, on any device."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from sem.core.errors import SemError
from sem.lm.local.chat import Chat
from sem.lm.local.constrain import Mask, Vocabulary
from sem.lm.local.generator import Completion, Prompt

ROUND_TO = 64


class _Probabilities:
    """A logits processor that notes, for each step and row, the probability of what is taken.

    Decoding is greedy, so that is the largest one; behind a mask, among what the mask allows.
    """

    def __init__(self) -> None:
        self.steps: list[list[float]] = []

    def __call__(self, ids: Any, scores: Any) -> Any:
        largest = scores.float().log_softmax(-1).max(-1).values
        self.steps.append(largest.exp().tolist())
        return scores


@dataclass(frozen=True)
class HfGenerator:
    """A loaded model with its Chat."""

    model: Any
    chat: Chat
    # Whether completions tell how probable each of their tokens was.
    measures: bool = False

    def generate(self, prompts: Sequence[Prompt]) -> list[Completion]:
        """Greedy completions; a prompt that leaves no room in the context is refused, not cut."""
        limit = getattr(self.model.config, "max_position_embeddings", None)  # T5 has no limit
        fits = [p for p in prompts if not limit or len(p.ids) + p.max_new_tokens <= limit]
        completions = iter(self._decode(fits) if fits else [])
        refused = Completion("", "refused", 0)
        return [next(completions) if p in fits else refused for p in prompts]

    def _decode(self, prompts: Sequence[Prompt]) -> list[Completion]:
        import torch
        from transformers import GenerationConfig

        ids, mask = self._padded(prompts)
        room = max(p.max_new_tokens for p in prompts)
        config = GenerationConfig(
            max_new_tokens=room,
            do_sample=False,
            eos_token_id=self.chat.stop_ids,
            pad_token_id=self.chat.tokenizer.pad_token_id,
        )
        limits = self._limits(prompts, room)
        measure = _Probabilities() if self.measures else None
        processors = [processor for processor in (limits, measure) if processor]
        own = self.model.generation_config
        if not self.encodes:
            # What is left open would be filled from the base model's own config: its repetition
            # penalty (1.1 in Qwen 2.5) punishes copying from the page, and is not greedy.
            self.model.generation_config = config
        try:
            with torch.inference_mode():
                out = self.model.generate(
                    input_ids=ids,
                    attention_mask=mask,
                    generation_config=config,
                    logits_processor=processors or None,
                )
        finally:
            self.model.generation_config = own
        closed = limits.closed if limits else set()
        # An encoder-decoder's output begins with its own start token, not with the prompt.
        start = 1 if self.encodes else ids.shape[1]
        rows = [row[start:].tolist() for row in out]
        steps = measure.steps if measure else []
        return [
            self._completion(ids, number in closed, [step[number] for step in steps])
            for number, ids in enumerate(rows)
        ]

    def _limits(self, prompts: Sequence[Prompt], room: int) -> Mask | None:
        schemas = [p.schema for p in prompts if p.schema is not None]
        if not schemas:
            return None
        if self.encodes:
            raise SemError(
                "an encoder-decoder is not decoded with a schema",
                "set eval.decoding and eval.base_decoding to free",
            )
        if len(schemas) != len(prompts):
            raise ValueError("a batch is decoded with a schema for each prompt, or with none")
        return Mask(self.vocabulary, schemas, room)

    @property
    def encodes(self) -> bool:
        """Return whether the model reads the prompt with an encoder."""
        return bool(self.model.config.is_encoder_decoder)

    @cached_property
    def vocabulary(self) -> Vocabulary:
        """This model's tokens as constrained decoding needs them."""
        size = self.model.get_output_embeddings().weight.shape[0]
        return Vocabulary(self.chat.tokenizer, size, tuple(self.chat.stop_ids))

    def _completion(
        self, ids: list[int], was_closed: bool, probabilities: Sequence[float]
    ) -> Completion:
        stops = [i for i, token in enumerate(ids) if token in self.chat.stop_ids]
        answer_ids = ids[: stops[0]] if stops else ids
        text = self.chat.decode(answer_ids)
        finish = "closed" if was_closed and stops else "stop" if stops else "length"
        completion = Completion(text, finish, len(answer_ids) + bool(stops))
        if not self.measures:
            return completion
        ends = [len(self.chat.decode(answer_ids[: n + 1])) for n in range(len(answer_ids))]
        measured = tuple(probabilities[: len(answer_ids)])
        return replace(completion, ends=tuple(ends), probabilities=measured)

    def _padded(self, prompts: Sequence[Prompt]) -> tuple[Any, Any]:
        import torch

        # Few distinct widths: on CPU every new shape compiles new kernels.
        width = -(-max(len(p.ids) for p in prompts) // ROUND_TO) * ROUND_TO
        pad = self.chat.tokenizer.pad_token_id
        fill = [(width - len(p.ids)) for p in prompts]
        ids = [[pad] * empty + list(p.ids) for p, empty in zip(prompts, fill, strict=True)]
        mask = [[0] * empty + [1] * len(p.ids) for p, empty in zip(prompts, fill, strict=True)]
        # Relative positions: the encoder is padded on the right.
        if self.encodes:
            ids = [row[empty:] + row[:empty] for row, empty in zip(ids, fill, strict=True)]
            mask = [row[empty:] + row[:empty] for row, empty in zip(mask, fill, strict=True)]
        device = self.model.device
        return torch.tensor(ids, device=device), torch.tensor(mask, device=device)
