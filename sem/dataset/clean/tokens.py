"""The base model's tokenizer, for budgets and counts. The tokenizer's door below `lm`."""

from collections.abc import Callable


def make_token_counter(definition: str) -> Callable[[str], int]:
    """Return how many tokens a text has, by the tokenizer.json `definition`, special tokens
    aside.
    """
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_str(definition)
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return lambda text: len(tokenizer.encode(text, add_special_tokens=False).ids)
