"""Questions of one document were not drawn one by one: intervals and samples count documents."""

from sem.core.example import Example
from sem.eval.answers import answers


def example(name: str, source: str | None, domain: str = "") -> Example:
    return Example(name, "qa", "?", {"answer": "!"}, {"domain": domain}, source_id=source)


def test_a_unit_is_the_domain_then_the_document_then_the_row() -> None:
    assert example("a", "book.md", "shop.example").unit == "shop.example"
    assert example("a", "book.md").unit == "book.md"
    assert example("a", None).unit == "a"


def test_a_sample_is_spread_over_documents() -> None:
    rows = [example(f"{n:02}", "long.md" if n < 18 else f"{n}.md") for n in range(20)]
    chosen = answers.sample_examples(rows, 3, 1)
    assert {one.unit for one in chosen} == {"long.md", "18.md", "19.md"}
