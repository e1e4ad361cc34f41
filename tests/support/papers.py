"""Documents made by hand: PDF and Word files as small as they can be, whole or spoiled."""

import io
import zipfile
import zlib

TYPES = (
    '<?xml version="1.0"?><Types xmlns="http://schemas.openxmlformats.org/package/2006/'
    'content-types"><Default Extension="xml" ContentType="application/xml"/><Default '
    'Extension="rels" ContentType="application/vnd.openxmlformats-package.relationships+xml"/>'
    '<Override PartName="/word/document.xml" ContentType="application/vnd.openxmlformats-'
    'officedocument.wordprocessingml.document.main+xml"/></Types>'
)
RELS = (
    '<?xml version="1.0"?><Relationships xmlns="http://schemas.openxmlformats.org/package/2006/'
    'relationships"><Relationship Id="r1" Type="http://schemas.openxmlformats.org/officeDocument/'
    '2006/relationships/officeDocument" Target="word/document.xml"/></Relationships>'
)
W = "http://schemas.openxmlformats.org/wordprocessingml/2006/main"


def body(*paragraphs: str, prefix: str = '<?xml version="1.0" encoding="UTF-8"?>') -> str:
    """Return the main part of a Word file; `# x` becomes a heading."""
    made = []
    for text in paragraphs:
        style = '<w:pPr><w:pStyle w:val="Heading1"/></w:pPr>' if text.startswith("# ") else ""
        shown = text.removeprefix("# ").replace("&", "&amp;").replace("<", "&lt;")
        made.append(f"<w:p>{style}<w:r><w:t>{shown}</w:t></w:r></w:p>")
    inner = "".join(made)
    return f'{prefix}<w:document xmlns:w="{W}"><w:body>{inner}</w:body></w:document>'


def docx(*paragraphs: str, **parts: str | bytes) -> bytes:
    """Return a Word file; `parts` replace or add members, by name with `__` for a slash."""
    members: dict[str, str | bytes] = {
        "[Content_Types].xml": TYPES,
        "_rels/.rels": RELS,
        "word/document.xml": body(*paragraphs),
    }
    members |= {name.replace("__", "/"): content for name, content in parts.items()}
    return archive(members)


def archive(members: dict[str, str | bytes]) -> bytes:
    """Return a zip of `members`."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as made:
        for name, content in members.items():
            made.writestr(zipfile.ZipInfo(name), content, zipfile.ZIP_DEFLATED)
    return file.getvalue()


def stream(content: bytes, packed: bool = False, more: str = "") -> bytes:
    """Return a stream object's inside."""
    data = zlib.compress(content) if packed else content
    filtered = "/Filter /FlateDecode " if packed else ""
    head = f"<< {filtered}{more}/Length {len(data)} >>\nstream\n".encode()
    return head + data + b"\nendstream"


def drawn(text: str) -> bytes:
    """Return what draws the lines of `text` on a page."""
    lines = text.split("\n")
    shown = [line.replace("\\", "\\\\").replace("(", "\\(").replace(")", "\\)") for line in lines]
    moves = " T* ".join(f"({line}) Tj" for line in shown)
    return f"BT /F1 12 Tf 14 TL 72 720 Td {moves} ET".encode("latin-1")


def pdf(*pages: str, packed: bool = False) -> bytes:
    """Return a PDF with a page for each text."""
    return pdf_of([stream(drawn(page), packed) for page in pages])


def pdf_of(contents: list[bytes], trailer: str = "", kids: str | None = None) -> bytes:
    """Return a PDF whose pages have these `contents`, each the inside of an object."""
    count = len(contents)
    named = kids or " ".join(f"{4 + 2 * n} 0 R" for n in range(count))
    objects: list[bytes] = [
        b"<< /Type /Catalog /Pages 2 0 R >>",
        f"<< /Type /Pages /Kids [{named}] /Count {count} >>".encode(),
        b"<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica >>",
    ]
    for number, content in enumerate(contents):
        page = (
            "<< /Type /Page /Parent 2 0 R /MediaBox [0 0 612 792] /Resources << /Font "
            f"<< /F1 3 0 R >> >> /Contents {5 + 2 * number} 0 R >>"
        )
        objects += [page.encode(), content]
    return assembled(objects, trailer)


def assembled(objects: list[bytes], trailer: str = "") -> bytes:
    """Return `objects` numbered from 1 as a PDF whose first is the catalogue."""
    made = bytearray(b"%PDF-1.7\n")
    places = []
    for number, inside in enumerate(objects, 1):
        places.append(len(made))
        made += f"{number} 0 obj\n".encode() + inside + b"\nendobj\n"
    start = len(made)
    made += f"xref\n0 {len(objects) + 1}\n0000000000 65535 f \n".encode()
    made += b"".join(f"{place:010} 00000 n \n".encode() for place in places)
    size = f"<< /Size {len(objects) + 1} /Root 1 0 R {trailer}>>"
    made += f"trailer\n{size}\nstartxref\n{start}\n%%EOF\n".encode()
    return bytes(made)


def encrypted(*pages: str, password: str = "secret") -> bytes:
    """Return a PDF that needs `password`; an empty one only forbids to edit it."""
    from pypdf import PdfReader, PdfWriter

    writer = PdfWriter(clone_from=PdfReader(io.BytesIO(pdf(*pages))))
    writer.encrypt(user_password=password, owner_password="owner", algorithm="RC4-128")
    file = io.BytesIO()
    writer.write(file)
    return file.getvalue()
