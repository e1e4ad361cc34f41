"""The network that rewrites a prompt, and nothing beside it: no template, no rule, no fallback.

A trained optimizer is a folder models/optimizer/RUN/ with adapter/ (LoRA and tokenizer), run.json
(what it was trained on), calibration.json (what a likelihood is worth) and manifest.json, written
last. The network is its base model with the adapter merged, in fp32: T5 in fp16 gives NaN.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

from sem.core import files, manifest, state
from sem.core.errors import SemError, suggest_nearest_name
from sem.lm.local import chat
from sem.lm.local import model as models
from sem.lm.local.chat import Chat
from sem.lm.weights import pinned_base, weights

PREFIX = "Optimize this prompt: "
# Tokens of a prompt that training has seen, the prefix included.
LIMIT = 128
PROMOTED = "promoted.json"
TRAIN = "train one with `fab optimizer.data optimizer.train`"
# Few distinct widths: on a CPU every new shape compiles new kernels.
ROUND_TO = 64


@dataclass(frozen=True)
class Decoding:
    """How a rewrite is read off the network.

    `temperature` 0: the likeliest text that `beams` beams find (1 beam: greedy). Above 0: a text
    is drawn, the same one for the same `seed` and prompt whatever else is in the batch. `penalty`:
    the score of a token that was written already is divided by it (multiplied where negative); 1:
    is not changed. Its default and that of `beams` were chosen on families held out for
    calibration.
    """

    max_tokens: int = 512
    temperature: float = 0.0
    beams: int = 1
    seed: int = 0
    penalty: float = 1.05

    def __post_init__(self) -> None:
        if self.max_tokens < 1 or self.beams < 1 or not 0 <= self.temperature <= 2:
            raise SemError(
                f"decoding with max_tokens {self.max_tokens}, beams {self.beams}, "
                f"temperature {self.temperature}",
                "use 1 token and 1 beam or more, and a temperature from 0 to 2",
            )
        if not 1 <= self.penalty <= 2:
            raise SemError(f"decoding with penalty {self.penalty}", "use 1 (none) to 2")


@dataclass(frozen=True)
class Rewrite:
    """What the network wrote; `mean_logprob` is the natural log p of its mean token.

    It is taken at temperature 1 whatever the decoding was, its penalty included, over the tokens
    that can be written, the end token counted. `finished` is false where the text was cut at
    max_tokens; `tokens` counts the end token too.
    """

    text: str
    mean_logprob: float
    tokens: int
    finished: bool


class Rewriter(Protocol):
    """Anything that rewrites prompts with the trained network."""

    limit: int  # most input tokens

    def count(self, prompt: str) -> int:
        """Return how many input tokens `prompt` is, prefix and end included."""

    def rewrite(self, prompts: Sequence[str], decoding: Decoding) -> list[Rewrite]:
        """Return a rewrite of each of `prompts`, in order.

        Raise SemError when one exceeds `limit`.
        """


def base_model_of(folder: Path) -> state.BaseModel:
    """Return what run.json of the optimizer in `folder` says of its base model."""
    return state.read_state_file(folder / "run.json", state.OptimizerPlan)["base_model"]


def find_optimizer(root: Path, name: str | None = None) -> Path:
    """Return the folder of the optimizer called `name`, else the promoted, else the newest whole
    one.
    """
    home = root / "models" / "optimizer"
    whole = sorted(path.parent.name for path in home.glob("*/manifest.json"))
    if name is None and (home / PROMOTED).exists():
        name = state.read_state_file(home / PROMOTED, state.Promoted)["run"]
    if name is None and not whole:
        raise SemError(f"no trained optimizer in {home}", TRAIN)
    if name is not None and name not in whole:
        raise SemError(
            f"no trained optimizer {name!r} in {home}", suggest_nearest_name(name, whole) or TRAIN
        )
    folder = home / (name or whole[-1])
    if wrong := optimizer_faults(folder):
        raise SemError(f"{folder}: {wrong[0]}", TRAIN)
    return folder


def optimizer_faults(folder: Path) -> list[str]:
    """Return what differs between `folder` and the hashes in its manifest.

    Empty when nothing does.
    """
    listed = manifest.read_manifest(folder, state.HashedFiles).get("files", {})
    wrong = []
    for name, sha256 in sorted(listed.items()):
        path = folder / name
        if not path.is_file() or path.is_symlink():
            wrong.append(f"{name} is missing")
        elif files.sha256_file(path) != sha256:
            wrong.append(f"{name} is not what its manifest says")
    return wrong if listed else ["its manifest lists no file"]


def encode_prompt(speaker: Chat, prompt: str) -> list[int]:
    """Return the input ids of `prompt`: prefix, prompt and end, spelled as in training."""
    return speaker.prompt_ids("", PREFIX + prompt)


def prompt_inputs(speaker: Chat, prompts: Sequence[str], limit: int) -> list[list[int]]:
    """Return the input ids of each of `prompts`; raise SemError when one has more than `limit`."""
    sent = [encode_prompt(speaker, prompt) for prompt in prompts]
    longest = max(map(len, sent), default=0)
    if longest > limit:
        raise SemError(
            f"a prompt is {longest} tokens, at most {limit} are read", "shorten the prompt"
        )
    return sent


def list_unwritable_tokens(speaker: Chat) -> list[str]:
    """Return the tokens that no rewrite holds: T5's sentinels that stand for no character here."""
    return list(speaker.spelling.unused) if speaker.spelling else []


@dataclass(frozen=True)
class TorchRewriter:
    """The network in PyTorch: the reference that faster engines are compared with."""

    model: Any
    speaker: Chat
    limit: int = LIMIT

    @classmethod
    def load(cls, folder: Path, root: Path) -> "TorchRewriter":
        """Return the optimizer in `folder`, its base model below `root`, adapter merged, in
        fp32.
        """
        base = pinned_base.resolve_pinned_base(base_model_of(folder), root)
        return cls.of(base.folder, folder / "adapter")

    @classmethod
    def of(cls, base: Path, adapter: Path | None) -> "TorchRewriter":
        """Return the network of the model in `base` with `adapter` merged.

        Without one, the base itself.
        """
        model = models.load_model(base, "float32")
        if not model.config.is_encoder_decoder:
            raise SemError(f"{base}: not an encoder-decoder", "name a model of the T5 family")
        return cls(
            models.merge_adapter(model, adapter) if adapter else model, chat.load_chat(base)
        )

    @classmethod
    def of_adapter(cls, adapter: Path, root: Path) -> "TorchRewriter":
        """Return the network of a PEFT folder `adapter` alone; its config names the base model."""
        config = adapter / "adapter_config.json"
        if not config.is_file() or not (adapter / "adapter_model.safetensors").is_file():
            raise SemError(f"{adapter}: no trained adapter", TRAIN)
        named = files.read_object(config).get("base_model_name_or_path")
        if not isinstance(named, str) or not named:
            raise SemError(f"{config}: names no base model", TRAIN)
        return cls.of(weights.resolve_weights(named, root).folder, adapter)

    def count(self, prompt: str) -> int:
        """Return how many input tokens `prompt` is, prefix and end included."""
        return len(encode_prompt(self.speaker, prompt))

    def rewrite(self, prompts: Sequence[str], decoding: Decoding) -> list[Rewrite]:
        """Return a rewrite of each of `prompts`, in order.

        Raise SemError when one exceeds `limit`.
        """
        sent = prompt_inputs(self.speaker, prompts, self.limit)
        return self._decoded(sent, decoding) if sent else []

    def _decoded(self, sent: list[list[int]], decoding: Decoding) -> list[Rewrite]:
        import torch
        from transformers import GenerationConfig

        ids, mask = self._padded(sent)
        config = GenerationConfig(
            max_new_tokens=decoding.max_tokens,
            do_sample=False,
            num_beams=1 if decoding.temperature else decoding.beams,
            eos_token_id=self.end,
            pad_token_id=self.pad,
            decoder_start_token_id=self.model.config.decoder_start_token_id,
            suppress_tokens=self.silent or None,
            repetition_penalty=float(decoding.penalty),
        )
        noise = [GumbelSampler(sent, decoding)] if decoding.temperature else None
        with torch.inference_mode():
            out = self.model.generate(
                input_ids=ids,
                attention_mask=mask,
                generation_config=config,
                logits_processor=noise,
            )
        sequences = [self._kept(row[1:].tolist()) for row in out]
        sure = self._likelihoods(ids, mask, sequences, decoding.penalty)
        return [self._read(row, value) for row, value in zip(sequences, sure, strict=True)]

    def _padded(self, rows: list[list[int]]) -> tuple[Any, Any]:
        import torch

        width = -(-max(map(len, rows)) // ROUND_TO) * ROUND_TO
        ids = torch.full((len(rows), width), self.pad)
        mask = torch.zeros_like(ids)
        for place, row in enumerate(rows):
            ids[place, : len(row)] = torch.tensor(row)
            mask[place, : len(row)] = 1
        return ids, mask

    def _kept(self, row: list[int]) -> list[int]:
        return row[: row.index(self.end) + 1] if self.end in row else row

    def _likelihoods(
        self, ids: Any, mask: Any, sequences: list[list[int]], penalty: float = 1.0
    ) -> list[float]:
        """Return the mean log p of each of `sequences` after `ids`, at temperature 1, repetition
        under `penalty`.
        """
        import torch
        from transformers import RepetitionPenaltyLogitsProcessor

        again = RepetitionPenaltyLogitsProcessor(float(penalty))
        labels, label_mask = self._padded(sequences)
        with torch.inference_mode():
            logits = self.model(input_ids=ids, attention_mask=mask, labels=labels).logits
            logits[..., self.silent] = -torch.inf
            for place in range(1, labels.shape[1] if penalty > 1 else 0):
                logits[:, place] = again(labels[:, :place], logits[:, place])
            log_p = torch.log_softmax(logits.float(), -1).gather(2, labels[..., None])[..., 0]
        return ((log_p * label_mask).sum(1) / label_mask.sum(1)).tolist()

    def _read(self, row: list[int], mean: float) -> Rewrite:
        finished = row[-1] == self.end
        text = self.speaker.decode(row[:-1] if finished else row)
        return Rewrite(text, mean, len(row), finished)

    @cached_property
    def silent(self) -> list[int]:
        """Return the ids that are never written."""
        return self.speaker.tokenizer.convert_tokens_to_ids(list_unwritable_tokens(self.speaker))

    @cached_property
    def end(self) -> int:
        """Return the id that ends a rewrite."""
        return self.speaker.end_of_turn

    @property
    def pad(self) -> int:
        """Return the id that fills up."""
        return self.speaker.tokenizer.pad_token_id


class GumbelSampler:
    """A logits processor that makes the likeliest token a drawn one (the Gumbel-max trick).

    Each row has a generator of its own, so that what is drawn does not depend on the batch.
    """

    def __init__(self, sent: list[list[int]], decoding: Decoding) -> None:
        import torch

        self.temperature = decoding.temperature
        self.dice = [torch.Generator().manual_seed(_seed(decoding.seed, row)) for row in sent]

    def __call__(self, _: Any, scores: Any) -> Any:
        import torch

        noise = [torch.rand(scores.shape[1], generator=generator) for generator in self.dice]
        even = torch.stack(noise).clamp(1e-20, 1 - 1e-7).to(scores.device)
        return scores.float() / self.temperature - torch.log(-torch.log(even))


def _seed(seed: int, row: list[int]) -> int:
    digest = hashlib.sha256(f"{seed} {row}".encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1
