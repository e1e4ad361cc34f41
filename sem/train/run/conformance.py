"""One row through our loss and through the model's own forward: they must say the same.

own, ours, untrained = compare_losses(base, recipe, row, chat)
"""

from pathlib import Path
from typing import Any

from sem.lm.local import model as models
from sem.lm.local.chat import Chat
from sem.train.engine import adapters, loss, trainer
from sem.train.fast import head, layers
from sem.train.recipe import Recipe
from sem.train.rows.data import Row

# Of the row, the last ones: logits of a whole page may be 2 GiB.
COMPARED_TOKENS = 160


def compare_losses(
    base: Path, recipe: Recipe, row: Row, chat: Chat
) -> tuple[float, float, list[str]]:
    """Return the mean loss of `row` by the model's own forward and by ours, as it is trained.

    Both in fp32 on the CPU, the adapter new. Third: adapted layers that get no gradient; experts
    of a router and other senses than text are left out, which a row need not reach.
    """
    import torch

    model = models.load_model(base, "float32")
    collate = trainer.collator_for(model, chat)
    if model.config.is_encoder_decoder:
        ids, prompt = row.ids, row.prompt
    else:
        ids = row.ids[-COMPARED_TOKENS:]
        prompt = max(1, row.prompt - (len(row.ids) - len(ids)))
    batch = collate([{"number": 0, "ids": ids, "prompt": prompt, "weights": None}])
    own = loss.own_loss(model, batch)
    head.finish_of(model)
    with torch.random.fork_rng():
        trained = adapters.wrap(model, recipe)
    if recipe.fast:
        layers.speed_up(trained, 0)
    ours = loss.token_cross_entropy(trained.eval(), batch).mean()
    ours.backward()
    return own, ours.item(), _untrained(trained)


def _untrained(model: Any) -> list[str]:
    return [
        name.partition(".lora_")[0].removeprefix("base_model.model.")
        for name, weight in model.named_parameters()
        if ".lora_B." in name
        and (weight.grad is None or not weight.grad.any())
        and not any(other in name for other in ("expert", "vision", "visual", "audio"))
    ]
