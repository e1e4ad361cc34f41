"""One renderer for training and generation: what the model saw is what it will see.

Text from a page can never become a control token: every token that was added to the tokenizer's
vocabulary, special or not, is broken up in content before the chat template is applied, so the
joined text tokenises the same here, in vLLM and in Ollama, and holds exactly the markers the
template put there.
"""

import re
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from typing import Any

from sem.core import files
from sem.core.errors import SemError
from sem.core.project import Project
from sem.lm.local import model as models
from sem.lm.local import turns as renderers
from sem.lm.weights import weights

# Characters that a tokenizer cannot spell, written with its spare tokens instead.
#
# T5's tokenizer reads `{`, `}`, `<` and line ends as unknown or drops them, and folds spaces:
# with it alone a model can neither read lines nor write JSON. Its sentinels `<extra_id_N>` are
# spare.
#
#     {"a": 1}   ->   <extra_id_98>"a": 1<extra_id_97>
#     zł         ->   z<extra_id_80>322<extra_id_80>       any other letter: its code point

CHARACTERS = "\n\t{}[]<>\\`~^|"
SPACE = " "
SENTINEL = "<extra_id_{}>"
LAST = 99
# Below those that CHARACTERS can take.
ESCAPE = 80


@dataclass(frozen=True)
class Spelling:
    """Character -> the token that stands for it; a space where the tokenizer would fold it.

    Every other character that the tokenizer loses or changes is its code point in decimal digits
    between two `escape` tokens; `spells` tells whether it keeps a character.
    """

    tokens: dict[str, str]
    escape: str
    spells: Callable[[str], bool]

    def out(self, text: str) -> str:
        """Return `text` as the tokenizer is given it."""
        return self.placed(text)[0]

    def placed(self, text: str) -> tuple[str, list[int]]:
        """Return `out(TEXT)`, and for each of its characters the place in `text` that it stands
        for.
        """
        spelled, places = self._spelled(self._lost(text), text, list(range(len(text))))
        # A space beside a sentinel, or at an end, or beside another, is dropped by some tokenizer.
        return self._spelled(self._spaces, spelled, places)

    def back(self, text: str) -> str:
        """Return what was meant by `text`, decoded ids: the inverse of `out`."""
        whole = self._escaped.sub(lambda match: _character(int(match[1])), text)
        return self._written.sub(lambda match: self._characters[match[1]], whole)

    @cached_property
    def unused(self) -> tuple[str, ...]:
        """Return the spare tokens that stand for nothing: `out` writes none of them."""
        used = {*self.tokens.values(), self.escape}
        return tuple(t for t in map(SENTINEL.format, range(LAST + 1)) if t not in used)

    def _spelled(
        self, pattern: re.Pattern[str], text: str, places: list[int]
    ) -> tuple[str, list[int]]:
        parts: list[str] = []
        moved: list[int] = []
        last = 0
        for match in pattern.finditer(text):
            parts.append(text[last : match.start()])
            moved += places[last : match.start()]
            last = match.end()
            for number in range(*match.span()):
                parts.append(self._written_as(text[number]))
                moved += [places[number]] * len(parts[-1])
        return "".join([*parts, text[last:]]), moved + places[last:]

    @cached_property
    def _characters(self) -> dict[str, str]:
        return {token: character for character, token in self.tokens.items()}

    def _written_as(self, character: str) -> str:
        token = self.tokens.get(character)
        return token or f"{self.escape}{ord(character)}{self.escape}"

    def _lost(self, text: str) -> re.Pattern[str]:
        """Return what finds the characters of `text` that the tokenizer does not keep."""
        lost = (c for c in set(text) if c != SPACE and (c in self.tokens or not self.spells(c)))
        return re.compile("|".join(map(re.escape, sorted(lost))) or r"(?!)")

    @cached_property
    def _spaces(self) -> re.Pattern[str]:
        return re.compile(rf"(?:(?<={self._any}) +| +(?={self._any})|\A +| +\Z|  +)")

    @cached_property
    def _written(self) -> re.Pattern[str]:
        return re.compile(rf" ?({'|'.join(map(re.escape, self.tokens.values()))}) ?")

    @cached_property
    def _escaped(self) -> re.Pattern[str]:
        token = re.escape(self.escape)
        return re.compile(rf" ?{token} ?([0-9]{{1,7}}) ?{token} ?")

    @property
    def _any(self) -> str:
        return SENTINEL.format("[0-9][0-9]")


def spelling_of(tokenizer: Any) -> Spelling | None:
    """Return the Spelling that `tokenizer` needs.

    None when it spells all, or has no spare tokens.
    """
    if tokenizer.convert_tokens_to_ids(SENTINEL.format(LAST)) in (None, tokenizer.unk_token_id):
        return None

    @cache
    def spells(character: str) -> bool:
        return _read(tokenizer, f"a{character}b") == f"a{character}b"

    lost = [c for c in CHARACTERS if not spells(c)]
    tokens = {c: SENTINEL.format(LAST - n) for n, c in enumerate([SPACE, *lost])}
    return Spelling(tokens, SENTINEL.format(ESCAPE), spells) if lost else None


def _character(number: int) -> str:
    """Return the character of a code point; nothing for a number that is none."""
    is_one = number <= sys.maxunicode and not 0xD800 <= number <= 0xDFFF
    return chr(number) if is_one else ""


def _read(tokenizer: Any, text: str) -> str:
    ids = tokenizer(text, add_special_tokens=False)["input_ids"]
    return tokenizer.decode(ids, skip_special_tokens=False)


VERSION = "1"
# Passes over a text whose look-alikes of control tokens are broken.
MAX_BREAKS = 8
# The last is how sentencepiece writes a space.
BLANK = " \t\n\r\f\v\u2581"
_ANSWER = "\u0001ANSWER\u0001"


@dataclass(frozen=True)
class Chat:
    """A tokenizer with its chat template: prompts and answers as token ids.

    Without `turns` (an encoder-decoder) the prompt is text, and it and the answer end alike.
    """

    tokenizer: Any
    turns: bool = True
    # What ends a text by the model's generation config.
    model_ends: tuple[int, ...] = ()

    def prompt_ids(self, system: str, user: str) -> list[int]:
        """Ids up to where the model's turn begins; raise SemError if content forged a marker."""
        ids = self._ids(self.prompt_text(system, user))
        if not self.turns:
            return [*ids, self.end_of_turn]
        forged = self._markers(ids) - self._markers_of_template
        if forged != 0:
            raise SemError(
                f"{forged:+d} control tokens in a prompt beyond those of the template",
                "report this input: the page's text forged a turn marker",
            )
        return ids

    def prompt_text(self, system: str, user: str) -> str:
        """Return the rendered prompt, control tokens in `system` and `user` broken up."""
        if not self.turns:
            return "\n\n".join(part for part in (self.neutral(system), self.neutral(user)) if part)
        return self.tokenizer.apply_chat_template(
            self.messages(system, user), tokenize=False, add_generation_prompt=True
        )

    def messages(self, system: str, user: str) -> list[dict[str, str]]:
        """Return the turns of a prompt as a chat API takes them, control tokens broken up."""
        return self._turns(self.neutral(system), self.neutral(user))

    def answer_ids(self, answer: str) -> list[int]:
        """Ids of the model's turn: `answer` and the end-of-turn token, which is trained too."""
        return [*self._ids(self.neutral(answer)), self.end_of_turn]

    def decode(self, ids: Sequence[int]) -> str:
        """Return the text of IDS, control tokens included."""
        text = self.tokenizer.decode(ids, skip_special_tokens=False)
        return self.spelling.back(text) if self.spelling else text

    def conversation_ids(self, system: str, user: str, answer: str) -> list[int]:
        """Ids of the whole conversation as the template itself renders it, the answer included."""
        if not self.turns:
            return [*self.prompt_ids(system, user), *self.answer_ids(answer)]
        turns = self._turns(self.neutral(system), self.neutral(user))
        reply = {"role": "assistant", "content": self.neutral(answer)}
        text = self.tokenizer.apply_chat_template([*turns, reply], tokenize=False)
        prompt = self.prompt_text(system, user)
        if prompt.endswith(" ") and text.startswith(prompt):
            # In one text that space would be a token with the answer's first characters.
            return [*self._ids(prompt), *self._ids(text.removeprefix(prompt))]
        return self._ids(text)

    def spans(self, text: str) -> list[tuple[int, int]]:
        """Return where each token of `text` (neutral already) begins and ends, in characters."""
        if not self.tokenizer.is_fast:
            raise SemError(
                "this tokenizer does not say where its tokens are",
                "leave train.loss and train.task_weights out",
            )
        input_text, places = self.spelling.placed(text) if self.spelling else (text, None)
        encoded = self.tokenizer(input_text, add_special_tokens=False, return_offsets_mapping=True)
        spans = [(start, end) for start, end in encoded["offset_mapping"]]
        if places is None:
            return spans
        ends = [*places, len(text)]
        return [(ends[a], places[b - 1] + 1 if b > a else ends[a]) for a, b in spans]

    def text_ids(self, text: str) -> list[int]:
        """Ids of a text that is not a turn, and the token that ends it."""
        end = self.tokenizer.eos_token_id
        return [*self._ids(self.neutral(text)), self.end_of_turn if end is None else end]

    def neutral(self, text: str) -> str:
        """Return `text` with every control token broken by a space, as `< end_of_turn>`."""
        count = 1
        while count:
            text, count = self._control.subn(lambda match: _broken(match[0]), text)
        return self._without_lookalikes(text) if self._reads_lookalikes else text

    def _without_lookalikes(self, text: str) -> str:
        # A tokenizer that folds widths or case reads `＜/think＞` as </think>.
        special = set(self._special.values())
        for _ in range(MAX_BREAKS):
            encoded = self.tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
            spans = zip(encoded["input_ids"], encoded["offset_mapping"], strict=True)
            forged = [span for token, span in spans if token in special]
            if not forged:
                return text
            for start, end in reversed(forged):
                text = text[:start] + _broken(text[start:end]) + text[end:]
        return text

    @cached_property
    def _reads_lookalikes(self) -> bool:
        if not self.turns or not self.tokenizer.is_fast:
            return False
        added = self.tokenizer.added_tokens_decoder
        folded = any(added[number].normalized for number in self._special.values())
        return folded and self.tokenizer.backend_tokenizer.normalizer is not None

    @property
    def definition(self) -> str:
        """Return the tokenizer as a tokenizer.json, for counting elsewhere."""
        return self.tokenizer.backend_tokenizer.to_str()

    @cached_property
    def end_of_turn(self) -> int:
        """Return the id that closes the model's turn in this template."""
        if not self.turns:
            return self.tokenizer.eos_token_id
        turns = [*self._turns("s", "u"), {"role": "assistant", "content": _ANSWER}]
        text = self.tokenizer.apply_chat_template(turns, tokenize=False)
        after = self.tokenizer(text.partition(_ANSWER)[2], add_special_tokens=False)["input_ids"]
        closing = [token for token in after if token in self.control_ids]
        if not closing:
            raise SemError(
                "the chat template of this base model does not close a turn with a token of its "
                "own, so the model cannot learn where an answer ends",
                renderers.way_out(self.tokenizer),
            )
        return closing[0]

    @cached_property
    def stop_ids(self) -> list[int]:
        """Return the ids that end a generation, by template, tokenizer and the model's config."""
        eos = self.tokenizer.eos_token_id
        return sorted({self.end_of_turn, *self.model_ends} | ({eos} if eos is not None else set()))

    @property
    def control_ids(self) -> set[int]:
        """Return the ids of tokens that control something: they may end an answer."""
        return set(self.tokenizer.all_special_ids) | set(self._special.values())

    def fingerprint(self) -> str:
        """sha256 of all that decides the ids: renderer, template, control tokens."""
        parts: list[Any] = [VERSION, self.tokenizer.chat_template, sorted(self._special)]
        if self.spelling:
            parts += [self.spelling.tokens, self.spelling.escape]
        return files.sha256_json(parts)

    def _ids(self, text: str) -> list[int]:
        spelled = self.spelling.out(text) if self.spelling else text
        return self.tokenizer(spelled, add_special_tokens=False)["input_ids"]

    @cached_property
    def spelling(self) -> Spelling | None:
        """Return how characters are written that an encoder-decoder's tokenizer does not know."""
        return None if self.turns else spelling_of(self.tokenizer)

    @cached_property
    def _special(self) -> dict[str, int]:
        # Also those added with special=False, as Qwen's </think> and <tool_call>. Runs of spaces,
        # which Gemma and GPT-NeoX added, control nothing, nor does a letter that somebody added.
        added = self.tokenizer.added_tokens_decoder
        return {
            str(token): number
            for number, token in added.items()
            if str(token).strip(BLANK) and (token.special or len(str(token)) > 1)
        }

    @cached_property
    def _control(self) -> re.Pattern[str]:
        longest = sorted(self._special, key=len, reverse=True)
        return re.compile("|".join(map(re.escape, longest)) or r"(?!)")

    @cached_property
    def _markers_of_template(self) -> int:
        text = self.tokenizer.apply_chat_template(
            self._turns("s", "u"), tokenize=False, add_generation_prompt=True
        )
        return self._markers(self.tokenizer(text, add_special_tokens=False)["input_ids"])

    def _markers(self, ids: Sequence[int]) -> int:
        special = set(self._special.values())
        return sum(token in special for token in ids)

    def _turns(self, system: str, user: str) -> list[dict[str, str]]:
        return [{"role": "system", "content": system}, {"role": "user", "content": user}]


def load_of(project: Project) -> Chat:
    """Return the Chat of `project`'s base model, with the renderer that its train.yaml names."""
    renderer = project.setting("train", "renderer", renderers.TEMPLATE)
    return load_chat(weights.base_of(project).folder, renderer)


def load_chat(folder: Path, renderer: str = renderers.TEMPLATE) -> Chat:
    """Return the Chat of the model in `folder`, with turns by `renderer` (`template`, `plan`).

    The tokenizer's template is asked first what it does (`turns.pin_template`); raise SemError
    when it has none and needs one, when it cannot be used, or when it knows none of the plan's
    turns.
    """
    from transformers import AutoTokenizer

    renderers.check_renderer(renderer)
    encodes = models.is_encoder_decoder(folder)
    tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
    if encodes:
        if renderer != renderers.TEMPLATE:
            raise SemError("an encoder-decoder has no turns", renderers.INSTEAD)
        return Chat(tokenizer, turns=False)
    if renderer == renderers.PLAN:
        tokenizer.chat_template = renderers.plan_template(tokenizer, _plan_end(tokenizer))
    elif tokenizer.chat_template:
        tokenizer.chat_template = renderers.pin_template(tokenizer)
    else:
        raise SemError(
            f"{folder}: the tokenizer has no chat template",
            f"use an instruct model; or {renderers.way_out(tokenizer)}",
        )
    chat = Chat(tokenizer, model_ends=_model_ends(folder, len(tokenizer)))
    ending = tokenizer.convert_ids_to_tokens(chat.end_of_turn)
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token or ending
    return chat


def stored_fingerprint(folder: Path) -> str:
    """Return the fingerprint of the tokenizer in `folder` without rendering its template."""
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
    return Chat(tokenizer, turns=not models.is_encoder_decoder(folder)).fingerprint()


def _plan_end(tokenizer: Any) -> str:
    """Return what ends the model's turn in the plan's: what does in the tokenizer's template.

    A template that cannot be used is left out, so that the plan's turns are always a way out.
    """
    _, closes = renderers.turn_markers(tokenizer)
    if tokenizer.chat_template:
        try:
            tokenizer.chat_template = renderers.pin_template(tokenizer, is_strict=False)
            return tokenizer.convert_ids_to_tokens(Chat(tokenizer).end_of_turn)
        except SemError:
            tokenizer.chat_template = None
    return closes


def _model_ends(folder: Path, size: int) -> tuple[int, ...]:
    """Return the ids that end a text by the generation config, those that the tokenizer has."""
    ends = models.read_config(folder / "generation_config.json").get("eos_token_id")
    listed = ends if isinstance(ends, list) else [ends]
    return tuple(token_id for token_id in listed if type(token_id) is int and 0 <= token_id < size)


def _broken(token: str) -> str:
    """Return `token` with a space behind its first character; a space where it is only one."""
    return f"{token[0]} {token[1:]}" if len(token) > 1 else " "
