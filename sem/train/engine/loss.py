"""Losses with the head computed only where there is a label.

Prompts are about ten times longer than answers and the head of a 262k-token vocabulary is
most of the model, so the hidden states of prompt positions never meet it. What a model does to
its states before the head, and to its logits behind it, is asked of the model (`head.finish_of`).
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from sem.train.engine.batches import IGNORED
from sem.train.fast import head

# Few distinct shapes: oneDNN compiles a kernel for each.
ROUND_TO = 64


@dataclass(frozen=True)
class TokenLosses:
    """Cross-entropy `values` of the labelled tokens, the `sequence` each is in, its `weights`.

    All of shape (tokens,), filled up with zeros to a multiple of 64.
    """

    values: Any
    sequence: Any
    weights: Any
    sequences: int

    def by_sequence(self) -> Any:
        """log p of each sequence's labelled tokens, shape (sequences,)."""
        import torch

        zeros = torch.zeros(self.sequences, device=self.values.device)
        return -zeros.index_add(0, self.sequence, self.values)

    def mean(self) -> Any:
        """Weighted mean over tokens."""
        return (self.values * self.weights).sum() / self.weights.sum()


@dataclass(frozen=True)
class States:
    """What stands before the head where there is a label: `hidden` (tokens, width), the token
    `wanted` next, the `sequence` each is in, its `weights` (tokens,); filled up as Scored is.
    """

    hidden: Any
    wanted: Any
    sequence: Any
    weights: Any
    sequences: int


Loss = Callable[[Any, dict[str, Any], Any, float], Any]


def answer_loss(model: Any, inputs: dict[str, Any], denominator: Any, _: float = 0.0) -> Any:
    """Weighted sum of next-token losses, divided by `denominator` (the step's sum of weights).

    `inputs` as `batches.Collator` makes them. `model`: a PeftModel or the model itself.
    """
    scored = token_cross_entropy(model, inputs)
    return (scored.values * scored.weights).sum() / denominator


def dpo_loss(model: Any, inputs: dict[str, Any], denominator: Any, beta: float) -> Any:
    """-log sigmoid(`beta` · (margin - reference margin)), summed over pairs.

    Source: Rafailov et al. 2023.

    `denominator`: pairs in the step. inputs["reference"]: (pairs, 2) log p of chosen and rejected
    under the model as it was before this stage.
    """
    from torch.nn.functional import logsigmoid

    chosen_log_p, rejected_log_p = token_cross_entropy(model, inputs).by_sequence().chunk(2)
    before = inputs["reference"].to(chosen_log_p.device)
    margin = (chosen_log_p - rejected_log_p) - (before[:, 0] - before[:, 1])
    return -logsigmoid(beta * margin).sum() / denominator


def orpo_loss(model: Any, inputs: dict[str, Any], denominator: Any, beta: float) -> Any:
    """Return the loss on the chosen answer, minus `beta` · log sigmoid(log odds ratio) (Hong et
    al. 2024).

    Odds are of the mean token: log p - log(1 - p) with log p the mean over labelled tokens.
    """
    import torch

    scored = token_cross_entropy(model, inputs)
    lengths = (inputs["labels"] != IGNORED).sum(dim=1).to(scored.values.device)
    chosen_log_p, rejected_log_p = (scored.by_sequence() / lengths).chunk(2)
    ratio = (chosen_log_p - rejected_log_p) - (_log1mexp(chosen_log_p) - _log1mexp(rejected_log_p))
    return (-chosen_log_p - beta * torch.nn.functional.logsigmoid(ratio)).sum() / denominator


LOSSES: dict[str, Loss] = {"answer": answer_loss, "dpo": dpo_loss, "orpo": orpo_loss}


def token_cross_entropy(model: Any, inputs: dict[str, Any]) -> TokenLosses:
    """Return the cross-entropy of every labelled token of `inputs` under `model`."""
    label_states = select_labelled_states(model, inputs)
    values = values_of(model, label_states.hidden, label_states.wanted)
    return TokenLosses(values, label_states.sequence, label_states.weights, label_states.sequences)


def select_labelled_states(model: Any, inputs: dict[str, Any]) -> States:
    """Return what `model`'s head sees of `inputs` where there is a label."""
    inner = _inner(model)
    if inner.config.is_encoder_decoder:
        hidden, targets, weights = _decoded(inner, inputs)
    else:
        hidden, targets, weights = _continued(inner, inputs)
    width = targets.shape[1]
    targets, weights = targets.flatten(), weights.flatten()
    place, count = _rounded((targets != IGNORED).nonzero().flatten())
    label_ids, weighed = targets[place], weights[place]
    # What only fills up has no loss.
    label_ids[count:], weighed[count:] = IGNORED, 0.0
    # One contiguous (labels, width) matrix: a sliced 3-d input copies the whole head instead.
    return States(hidden.flatten(0, 1)[place], label_ids, place // width, weighed, len(hidden))


def values_of(model: Any, hidden: Any, targets: Any) -> Any:
    """Return the loss of each of `targets` after `hidden` by `model`'s head.

    0 where there is none.
    """
    import torch

    inner = _inner(model)
    embeddings, finish = inner.get_output_embeddings(), head.finish_of(inner)
    if finish.cap is None and head.is_supported_head(embeddings, inner.config):
        factor = finish.before * finish.scale
        states = hidden if factor == 1.0 else hidden * factor
        return head.token_losses(states, embeddings.weight, targets)
    states = hidden if finish.before == 1.0 else hidden * finish.before
    # Unsloth's Gemma 3 leaves fp16 states before fp32 weights where a card has no bf16.
    logits = embeddings(states.to(embeddings.weight.dtype)).float()
    return torch.nn.functional.cross_entropy(finish.apply(logits), targets, reduction="none")


def own_loss(model: Any, inputs: dict[str, Any]) -> float:
    """Return the mean loss of the labels of `inputs` by the model's own forward and whole head.

    `inputs` as `batches.Collator` makes them; what ours (`score`) is compared with.
    """
    import torch

    inner, labels = _inner(model), inputs["labels"]
    words = {name: inputs[name] for name in ("input_ids", "attention_mask")}
    with torch.no_grad():
        if inner.config.is_encoder_decoder:
            logits = inner(**words, labels=labels).logits
        else:
            logits, labels = inner(**words, use_cache=False).logits[:, :-1], labels[:, 1:]
    flat = logits.float().flatten(0, 1)
    return torch.nn.functional.cross_entropy(flat, labels.flatten(), ignore_index=IGNORED).item()


def _inner(model: Any) -> Any:
    return model.get_base_model() if hasattr(model, "get_base_model") else model


def _continued(causal: Any, inputs: dict[str, Any]) -> tuple[Any, Any, Any]:
    """Hidden states that predict the next token, those tokens, their weights."""
    mask = inputs["attention_mask"]
    hidden = causal.get_decoder()(
        input_ids=inputs["input_ids"],
        # No mask where nothing is padded: attention then takes its fastest path.
        attention_mask=None if bool(mask.all()) else mask,
        use_cache=False,
    ).last_hidden_state
    return hidden[:, :-1], inputs["labels"][:, 1:], inputs["weights"][:, 1:]


def _decoded(seq2seq: Any, inputs: dict[str, Any]) -> tuple[Any, Any, Any]:
    """Return the same of an encoder-decoder.

    The decoder sees the answer one place to the right.
    """
    labels = inputs["labels"]
    inner = seq2seq.model if hasattr(seq2seq, "model") else seq2seq
    encoded = inner.get_encoder()(
        input_ids=inputs["input_ids"], attention_mask=inputs["attention_mask"]
    ).last_hidden_state
    hidden = inner.get_decoder()(
        input_ids=seq2seq.prepare_decoder_input_ids_from_labels(labels),
        encoder_hidden_states=encoded,
        encoder_attention_mask=inputs["attention_mask"],
        use_cache=False,
    ).last_hidden_state
    if getattr(seq2seq.config, "scale_decoder_outputs", False):
        hidden = hidden * seq2seq.model_dim**-0.5
    return hidden, labels, inputs["weights"]


def _log1mexp(log_p: Any) -> Any:
    """log(1 - p) of a log probability; p is held below 1 by what float32 can tell apart."""
    import torch

    return torch.log(-torch.expm1(log_p.clamp(max=-1e-7)))


def _rounded(place: Any) -> tuple[Any, int]:
    """Return `place` filled up with zeros to a multiple of 64, and its length before."""
    import torch

    missing = -len(place) % ROUND_TO
    return torch.cat([place, place.new_zeros(missing)]), len(place)
