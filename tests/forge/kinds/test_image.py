"""ImageForge: headers without decoding, notes of cameras cut out, descriptions asked about."""

import base64
import json
import struct
import zlib
from datetime import UTC, datetime

import pytest
from chatserver import ChatServer

from sem.core.project import Project
from sem.forge.base import ForgeConfig
from sem.forge.kinds import image
from sem.forge.kinds.image import ImageForge, ImageHeader
from sem.forge.teacher import teacher as teachers
from sem.forge.teacher.presets import TeacherSettings
from sem.lm.api.calls import ChatRequest
from sem.lm.api.provider import Calls, Price, Provider

AT = datetime(2026, 11, 21, tzinfo=UTC)


def chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def png(width=32, height=24, *more: bytes) -> bytes:
    head = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    rows = zlib.compress(b"\x00" * (min(width, 64) + 1) * min(height, 64))
    parts = [chunk(b"IHDR", head), *more, chunk(b"IDAT", rows), chunk(b"IEND", b"")]
    return image.PNG + b"".join(parts)


def jpeg(width=32, height=24, *more: bytes) -> bytes:
    frame = b"\xff\xc0" + struct.pack(">HBHHB", 11, 8, height, width, 1) + b"\x01\x11\x00"
    return b"\xff\xd8" + b"".join(more) + frame + b"\xff\xda\x00\x02rest\xff\xd9"


EXIF = b"\xff\xe1" + struct.pack(">H", 21) + b"Exif\x00\x00GPS 52.5 13.4"
GIF = b"GIF89a" + struct.pack("<HH", 32, 24) + b"\x00" * 8
WEBP = {
    "VP8X": b"RIFF\x00\x00\x00\x00WEBPVP8X\x0a" + b"\x00" * 7 + b"\x1f\x00\x00\x17\x00\x00",
    "VP8L": b"RIFF\x00\x00\x00\x00WEBPVP8L\x00\x00\x00\x00\x2f" + struct.pack("<I", 31 | 23 << 14),
    "VP8 ": b"RIFF\x00\x00\x00\x00WEBPVP8 \x00\x00\x00\x00\x00\x00\x00\x9d\x01\x2a"
    + struct.pack("<HH", 32, 24),
}


@pytest.mark.parametrize(
    ("data", "kind"),
    [
        (png(), "png"),
        (jpeg(), "jpeg"),
        (jpeg(32, 24, EXIF), "jpeg"),
        (GIF, "gif"),
        *((data, "webp") for data in WEBP.values()),
    ],
)
def test_kind_and_dimensions_are_in_the_header(data, kind):
    assert image.picture_head(data) == ImageHeader(kind, 32, 24)


@pytest.mark.parametrize("data", [png(), jpeg(32, 24, EXIF), GIF, *WEBP.values()])
def test_a_header_that_is_cut_anywhere_is_none_or_the_same(data):
    whole = image.picture_head(data)

    for end in range(len(data)):
        assert image.picture_head(data[:end]) in (None, whole)


def test_what_a_camera_notes_is_cut_out_and_the_picture_stays():
    text = chunk(b"tEXt", b"GPS\x0052.5 13.4")
    bare_png, bare_jpeg = (
        image.strip_image_metadata(png(32, 24, text), "png"),
        image.strip_image_metadata(jpeg(32, 24, EXIF), "jpeg"),
    )

    assert bare_png == png()
    assert bare_jpeg == jpeg()


def forge(tmp_path, server, **params):
    stub = Provider("openai/stub", api_base=server.url, price=Price(0, 0))
    ask = teachers.make_teacher(TeacherSettings(calls=Calls((stub,), tries=1)), tmp_path, AT)
    config = ForgeConfig(Project("x", tmp_path), tmp_path / "raw", tmp_path, params, ask)
    return ImageForge(config)


SEEN = "A red mug stands on a wooden table. " * 3


def vision(body, number):
    content = body["messages"][-1]["content"]
    if isinstance(content, list):
        return json.dumps(
            {"description": "A red mug stands on a wooden table. " * 3, "text": "HI"}
        )
    pair = {"number": 1, "question": "What stands on the table?", "answer": "A red mug."}
    return json.dumps({"pairs": [pair]})


def test_a_picture_is_described_and_the_description_is_asked_about(tmp_path):
    raw = tmp_path / "raw"
    raw.mkdir()
    (raw / "mug.png").write_bytes(png(32, 24, chunk(b"tEXt", b"GPS\x0052.5")))
    with ChatServer(vision) as server:
        made = forge(tmp_path, server)
        (pair,) = made.synthesize(made.load())
        again = forge(tmp_path, server)
        list(again.synthesize(again.load()))

    assert (pair.instruction, pair.source) == ("What stands on the table?", "mug.png")
    assert "Written in it: HI" in pair.provenance["passage"]
    assert len(server.seen) == 2
    text, image = server.seen[0]["messages"][1]["content"]
    assert text["type"] == "text"
    url = image["image_url"]["url"]
    assert url.startswith("data:image/png;base64,")
    assert base64.b64decode(url.partition(",")[2]) == png()


def test_pictures_that_may_not_be_sent_are_counted(tmp_path):
    raw = tmp_path / "raw"
    raw.mkdir()
    for name, data in {
        "bomb.png": png(60_000, 60_000),
        "icon.png": png(8, 8),
        "jpeg.png": jpeg(),
        "torn.png": png()[:20],
        "large.jpg": jpeg() + b"\x00" * 2_000,
        "text.gif": b"no picture",
        "notes.md": b"x",
        "twin1.gif": GIF,
        "twin2.gif": GIF,
    }.items():
        (raw / name).write_bytes(data)
    (raw / "link.png").symlink_to("/etc/hostname")
    with ChatServer(vision) as server:
        made = forge(tmp_path, server, pictures={"max_bytes": 1_000})
        names = [picture.name for picture in made.pictures()]

    assert names == ["twin1.gif"]
    assert {s["where"]: s["reason"] for s in made.config.skipped} == {
        "bomb.png": "image_bomb",
        "icon.png": "image_too_small",
        "jpeg.png": "wrong_extension",
        "torn.png": "image_unreadable",
        "large.jpg": "too_large",
        "text.gif": "image_unreadable",
        "notes.md": "unknown_kind",
        "twin2.gif": "same_bytes",
        "link.png": "link_leaves",
    }
    assert server.seen == []


def test_a_teacher_that_refuses_a_picture_is_counted(tmp_path):
    (tmp_path / "raw").mkdir()
    (tmp_path / "raw" / "mug.gif").write_bytes(GIF)
    with ChatServer(lambda body, number: "400") as server:
        made = forge(tmp_path, server)
        assert list(made.synthesize(made.load())) == []

    assert [(s["where"], s["reason"]) for s in made.config.skipped] == [("mug.gif", "bad_request")]


def test_a_picture_is_part_of_the_key_and_of_the_bound_on_tokens():
    plain = ChatRequest((("user", "x"),))
    one, other = (ChatRequest((("user", "x"),), images=(f"data:{n}",)) for n in "ab")

    assert len({r.key({}) for r in (plain, one, other)}) == 3
    assert one.most_tokens_in - plain.most_tokens_in == 40_000
    assert plain.content(plain.messages) == [{"role": "user", "content": "x"}]
