"""Files that a disk or a person has damaged, the same ones in every run."""

import random
from pathlib import Path


def damage_file(path: Path, seed: int) -> None:
    """Damage the file at `path` in one of four ways, by `seed`."""
    chance, data = random.Random(seed), bytearray(path.read_bytes())
    way = ("cut", "flipped bytes", "an overwritten page", "a page twice")[seed % 4]
    page = chance.randrange(len(data) // 4096) * 4096
    if way == "cut":
        del data[chance.randrange(len(data)) :]
    elif way == "flipped bytes":
        for _ in range(chance.choice((1, 8, 64, 512))):
            data[chance.randrange(len(data))] ^= 1 << chance.randrange(8)
    elif way == "an overwritten page":
        data[page : page + 4096] = chance.choice((bytes(4096), chance.randbytes(4096)))
    else:
        other = chance.randrange(len(data) // 4096) * 4096
        data[page : page + 4096] = data[other : other + 4096]
    path.write_bytes(data)
