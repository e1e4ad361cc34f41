"""llama.cpp answers a package as Transformers does: the same tokens, values that keep to it."""

import pytest

from sem import Expert
from sem.lm.local import gguf_writer
from sem.package.serve.engine import GGUF

PAGE = "<h1>Red mug</h1><p class=price>12.50</p>"


def test_llama_cpp_answers_a_page_by_the_same_prompt_and_keeps_to_the_schema(package) -> None:
    pytest.importorskip("xllamacpp")
    (package / GGUF).parent.mkdir()
    gguf_writer.write_gguf(package / "model", package / GGUF, "f16", "toy")
    with Expert.load(package, "llamacpp", verify=False) as other:
        answer = other.extract(PAGE)
    with Expert.load(package, verify=False) as usual:
        expected = usual.extract(PAGE)

    assert answer.refusal is None
    assert answer.page == expected.page
    assert answer.tokens_in == expected.tokens_in
    assert answer.slots.keys() == expected.slots.keys()
    assert answer.tokens_out <= other.contract.max_new_tokens
    assert all(0 < slot.confidence <= 1 for slot in answer.slots.values())
