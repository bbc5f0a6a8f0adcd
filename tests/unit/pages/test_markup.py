"""Everything that goes into a page's HTML is escaped by the way it is built."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import aesthetic_clip.pages
from aesthetic_clip.errors import AestheticError, Remedy
from aesthetic_clip.pages import messages
from aesthetic_clip.pages.markup import html, joined

PAGES = Path(aesthetic_clip.pages.__file__).parent
HOST = PAGES.parent / "hosts" / "a1111"
# The cards are put together from what the WebUI itself draws.
FILES = sorted([*PAGES.rglob("*.py"), *(file for file in HOST.rglob("*.py") if file.name != "cards.py")])
EVIL = "<img src=x onerror=alert(1)>&\"'{0}\x1b[31m caf\udce9 \u202egpj.exe"

# Not a prompt's own: <aesthetic:name>.
TAG = re.compile(r"</?[a-z]+\b(?!:)", re.IGNORECASE)


def has_tag(text: object) -> bool:
    return isinstance(text, str) and TAG.search(text) is not None


def faults(source: str) -> Iterator[str]:
    """Where HTML is put together with something that is not escaped by its construction."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.JoinedStr):
            texts = [part.value for part in node.values if isinstance(part, ast.Constant)]
            if len(texts) < len(node.values) and any(map(has_tag, texts)):
                yield f"line {node.lineno}: an f-string with a tag"
        if isinstance(node, ast.BinOp) and isinstance(node.op, (ast.Add, ast.Mod)):
            for side in (node.left, node.right):
                if isinstance(side, ast.Constant) and has_tag(side.value):
                    yield f"line {node.lineno}: a text with a tag that something is added to"
        if isinstance(node, ast.Call):
            name = node.func.id if isinstance(node.func, ast.Name) else getattr(node.func, "attr", "")
            literal = bool(node.args) and isinstance(node.args[0], ast.Constant)
            if name in ("html", "Markup") and not literal:
                yield f"line {node.lineno}: a template that is not written where it is used"
            receiver = node.func.value if isinstance(node.func, ast.Attribute) else None
            if name == "format" and isinstance(receiver, ast.Constant) and has_tag(receiver.value):
                yield f"line {node.lineno}: a text with a tag that is formatted"


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.relative_to(PAGES.parent).as_posix())
def test_no_html_is_built_without_escaping(file: Path) -> None:
    # The helper itself is where a template becomes HTML.
    if file.name != "markup.py":
        assert list(faults(file.read_text(encoding="utf-8"))) == []


@pytest.mark.parametrize(
    "source",
    [
        'f"<p>{name}</p>"',
        '"<p>" + name',
        '"<p>%s" % name',
        '"<p>{}".format(name)',
        "html(template)",
        'html(f"<p>{name}")',
        "Markup(name)",
        'markup.Markup("".join(names))',
    ],
)
def test_a_way_around_it_is_noticed(source: str) -> None:
    assert list(faults(source))


def test_values_are_escaped_and_printable() -> None:
    made = html("<p title='{}'>{name}</p>", EVIL, name=EVIL)
    assert "<img" not in made and "\x1b" not in made and "\u202e" not in made
    assert made.count("'") == 2, "a value can't end its attribute"
    assert "caf\\xe9" in made
    made.encode()


def test_html_within_html_stays() -> None:
    assert html("<ul>{}</ul>", joined([html("<li>{}</li>", "a"), html("<li>{}</li>", "<")])) == (
        "<ul><li>a</li><li>&lt;</li></ul>"
    )


def test_an_error_is_told_in_the_words_of_the_program_around_the_page() -> None:
    fault = AestheticError(f"No {EVIL}.", "It is too large.", "Use less.", Remedy.MEMORY)
    said = messages.error(fault, {Remedy.MEMORY: "Tick <Less>."})
    assert said.startswith("<div class='error'>No &lt;img") and said.endswith(
        "It is too large. Tick &lt;Less&gt;.</div>"
    )
    assert "Use less." in messages.error(fault, {})
