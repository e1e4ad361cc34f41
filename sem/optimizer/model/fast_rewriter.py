"""The same network in CTranslate2, on a CPU, faster than PyTorch.

The merged fp32 model is converted once and kept in models/optimizer/RUN/fast/WEIGHTS-HASH/, named
by all that decides its bytes. With float32 weights greedy rewrites are PyTorch's token for token;
what int8 changes is measured by benchmarks/speed/optimizer_load.py.
"""

import shutil
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sem.core import files, manifest
from sem.core.errors import SemError
from sem.lm.local import chat
from sem.lm.local import model as models
from sem.lm.local.chat import Chat
from sem.lm.weights import pinned_base
from sem.optimizer.model import rewriter
from sem.optimizer.model.rewriter import Decoding, Rewrite

# Of what `convert` writes.
VERSION = 1
# What a person names -> what CTranslate2 calls it. "int8" alone would follow the saved type of
# the other weights, which on some machines is float16.
WEIGHTS = {"int8": "int8_float32", "float32": "float32"}
# Row, token id -> whether that row ends here.
Watch = Callable[[int, int], bool]


@dataclass(frozen=True)
class Engine:
    """How the network is held and run."""

    # Of the matrices. float32 gives PyTorch's tokens; int8 is faster and confuses the sentinels
    # that stand for line ends, whose rows of the head hardly differ.
    weights: str = "float32"
    # For one batch; more than there are cores slows it down.
    threads: int = 2

    def __post_init__(self) -> None:
        if self.weights not in WEIGHTS or not 1 <= self.threads <= 256:
            raise SemError(
                f"engine with weights {self.weights!r} and {self.threads} threads",
                f"weights: one of {', '.join(WEIGHTS)}; threads: 1 to 256",
            )


@dataclass(frozen=True)
class FastRewriter:
    """The network in CTranslate2; a `rewriter.Rewriter`."""

    translator: Any
    speaker: Chat
    limit: int = rewriter.LIMIT

    @classmethod
    def load(cls, folder: Path, root: Path, engine: Engine | None = None) -> "FastRewriter":
        """Return the optimizer in `folder`, its base model below `root`.

        Converted if that was not done.
        """
        engine = engine or Engine()
        base = pinned_base.resolve_pinned_base(rewriter.base_model_of(folder), root)
        key = _key(base.revision, folder / "adapter")
        place = folder / "fast" / f"{engine.weights}-{key[:16]}"
        if not manifest.matches_manifest(place):
            merged = models.merge_adapter(
                models.load_model(base.folder, "float32"), folder / "adapter"
            )
            convert_to_ctranslate2(merged, chat.load_chat(base.folder), place, engine.weights)
        return cls.open(place, chat.load_chat(base.folder), engine)

    @classmethod
    def open(cls, place: Path, speaker: Chat, engine: Engine) -> "FastRewriter":
        """Return the converted network in `place`."""
        import ctranslate2

        translator = ctranslate2.Translator(
            str(place),
            device="cpu",
            compute_type=WEIGHTS[engine.weights],
            # Batches come one after another, each with every thread.
            inter_threads=1,
            intra_threads=engine.threads,
        )
        return cls(translator, speaker)

    def count(self, prompt: str) -> int:
        """Return how many input tokens `prompt` is, prefix and end included."""
        return len(rewriter.encode_prompt(self.speaker, prompt))

    def rewrite(
        self, prompts: Sequence[str], decoding: Decoding, watch: Watch | None = None
    ) -> list[Rewrite]:
        """Return a rewrite of each of `prompts`, in order.

        Raise SemError when one exceeds `limit`.

        With a temperature a text is drawn anew each time: CTranslate2 seeds a batch and not a
        row, so `decoding.seed` is not read. `watch` sees each token as it is chosen, unless there
        are beams, and may end its row.
        """
        sent = rewriter.prompt_inputs(self.speaker, prompts, self.limit)
        if not sent:
            return []
        sampling = {"sampling_topk": 0, "sampling_temperature": decoding.temperature}
        greedy = decoding.temperature or decoding.beams == 1
        results = self.translator.translate_batch(
            [self.speaker.tokenizer.convert_ids_to_tokens(ids) for ids in sent],
            beam_size=1 if greedy else decoding.beams,
            max_decoding_length=decoding.max_tokens,
            # The default of 1 forbids an empty text, PyTorch does not.
            min_decoding_length=0,
            # The default cuts at 1,024.
            max_input_length=0,
            return_scores=True,
            return_end_token=True,
            repetition_penalty=decoding.penalty,
            suppress_sequences=[
                [token] for token in rewriter.list_unwritable_tokens(self.speaker)
            ],
            **(sampling if decoding.temperature else {}),
            callback=_callback(watch) if watch and greedy else None,
        )
        return [self._read(result) for result in results]

    def text(self, ids: Sequence[int]) -> str:
        """Return the text of output IDS, the end token not among them."""
        return self.speaker.decode(ids)

    @property
    def end(self) -> int:
        """Return the id that ends a rewrite."""
        return self.speaker.end_of_turn

    def _read(self, result: Any) -> Rewrite:
        ids = self.speaker.tokenizer.convert_tokens_to_ids(result.hypotheses[0])
        finished = bool(ids) and ids[-1] == self.end
        text = self.speaker.decode(ids[:-1] if finished else ids)
        return Rewrite(text, result.scores[0], len(ids), finished)


def _callback(watch: Watch) -> Callable[[Any], bool]:
    return lambda step: watch(step.batch_id, step.token_id)


def convert_to_ctranslate2(model: Any, speaker: Chat, place: Path, weights: str) -> Path:
    """Write `model`, a merged T5 in fp32, to `place` for CTranslate2, all or nothing.

    `model` is not to be used afterwards: CTranslate2 changes its tensors.
    """
    import torch

    place.parent.mkdir(parents=True, exist_ok=True)
    with files.lock_file(place.parent / f".{place.name}.lock", f"{place}"):
        if manifest.matches_manifest(place):
            return place
        staging = Path(tempfile.mkdtemp(dir=place.parent, prefix=".building-"))
        try:
            with torch.no_grad():
                spec = _spec(model, speaker)
                spec.validate()
                spec.optimize(quantization=WEIGHTS[weights])
                spec.save(str(staging))
            manifest.seal_folder(staging, {"format": "ctranslate2", "weights": weights})
            staging.chmod(0o755)
            shutil.rmtree(place, ignore_errors=True)
            staging.rename(place)
        except BaseException:
            shutil.rmtree(staging, ignore_errors=True)
            raise
    files.sync_path(place.parent)
    return place


def _spec(model: Any, speaker: Chat) -> Any:
    import ctranslate2.specs.model_spec as parts
    from ctranslate2.converters.transformers import T5Loader

    class Loader(T5Loader):
        def get_vocabulary(self, model: Any, tokenizer: Any) -> list[str]:
            # T5Loader calls the unused rows of the embedding <extra_id_0> and on, again: a
            # second token of that name, and the spelling layer writes with the first.
            tokens = tokenizer.convert_ids_to_tokens(list(range(len(tokenizer))))
            unused = range(model.config.vocab_size - len(tokens))
            return [*tokens, *(f"<unused_{number}>" for number in unused)]

    spec = Loader()(model, speaker.tokenizer)
    # transformers 5 says tie_word_embeddings: true of every T5, and whether scores are scaled
    # in another key; T5Loader reads the first alone.
    if not model.config.scale_decoder_outputs:
        spec.decoder.scale_outputs = parts.OPTIONAL
    return spec


def _key(revision: str, adapter: Path) -> str:
    """Return what the converted network is made of, as a hash."""
    import ctranslate2

    parts = [VERSION, ctranslate2.__version__, revision]
    parts += [files.sha256_file(path) for path in sorted(adapter.glob("adapter_*"))]
    return files.sha256_json(parts)
