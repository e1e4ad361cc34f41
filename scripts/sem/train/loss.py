"""Cross-entropy with the head computed only where there is a label.

Prompts are about ten times longer than answers and the head of a 262k-token vocabulary is
most of the model, so the hidden states of prompt positions never meet it.
"""

from typing import Any

from sem.train.data import IGNORED

ROUND_TO = 64  # few distinct shapes: oneDNN compiles a kernel for each


def answer_loss(model: Any, inputs: dict[str, Any], denominator: Any) -> Any:
    """Summed next-token loss over labelled positions, divided by DENOMINATOR (their count).

    INPUTS: input_ids, attention_mask, labels of shape (rows, width). MODEL: a PeftModel.
    """
    import torch

    causal = model.get_base_model() if hasattr(model, "get_base_model") else model
    mask = inputs["attention_mask"]
    hidden = causal.get_decoder()(
        input_ids=inputs["input_ids"],
        # No mask where nothing is padded: attention then takes its fastest path.
        attention_mask=None if bool(mask.all()) else mask,
        use_cache=False,
    ).last_hidden_state
    targets = inputs["labels"][:, 1:].flatten()
    place = _rounded((targets != IGNORED).nonzero().flatten())
    # One contiguous (labels, width) matrix: a sliced 3-d input copies the whole head instead.
    chosen = hidden[:, :-1].flatten(0, 1)[place]
    logits = causal.get_output_embeddings()(chosen).float()
    softcap = getattr(causal.config, "final_logit_softcapping", None)
    if softcap:
        logits = torch.tanh(logits / softcap) * softcap
    loss = torch.nn.functional.cross_entropy(logits, targets[place], reduction="sum")
    return loss / denominator


def _rounded(place: Any) -> Any:
    """PLACE filled up to a multiple of 64 with position 0, which never has a label."""
    import torch

    missing = -len(place) % ROUND_TO
    return torch.cat([place, place.new_zeros(missing)])
