"""Exact duplicates and contradictions, by digest: memory grows by 64 bytes a row, not by pages."""

import hashlib
from dataclasses import dataclass, field

from sem.core import jsonio
from sem.core.example import Example


@dataclass
class Seen:
    """What has passed: an input's first reference, and the inputs with more than one."""

    first: dict[bytes, bytes] = field(default_factory=dict)
    conflicting: set[bytes] = field(default_factory=set)

    def is_repeat(self, example: Example) -> bool:
        """Whether an equal example passed before; notes another reference for the same input."""
        key, answer = input_key(example), _digest(jsonio.dumps(example.output_json))
        before = self.first.setdefault(key, answer)
        if before is answer:
            return False
        if before != answer:
            self.conflicting.add(key)
            return self._is_repeat_of_other(key, answer)
        return True

    def _is_repeat_of_other(self, key: bytes, answer: bytes) -> bool:
        both = _digest_bytes(key + answer)
        if both in self.first:
            return True
        self.first[both] = answer
        return False


def input_key(example: Example) -> bytes:
    """Digest of task and input."""
    return _digest(jsonio.dumps([example.task, example.input_text]))


def _digest(text: str) -> bytes:
    return _digest_bytes(text.encode("utf-8"))


def _digest_bytes(data: bytes) -> bytes:
    return hashlib.blake2b(data, digest_size=16).digest()
