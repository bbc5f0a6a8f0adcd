"""A small world of pictures with captions, drawn by numpy: a coloured shape, a background, a style.

Everything follows from a seed. Some combinations of shape, colour and background
are held out: no picture of them is ever drawn for training, so prompts for them
ask for something new.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

Array = NDArray[np.float32]

SIZE = 64

SHAPES = ("circle", "square", "triangle", "cross", "ring", "star")

COLOURS: dict[str, tuple[float, float, float]] = {
    "red": (0.86, 0.13, 0.15),
    "yellow": (0.97, 0.85, 0.13),
    "green": (0.15, 0.65, 0.25),
    "blue": (0.15, 0.30, 0.85),
    "purple": (0.60, 0.18, 0.70),
    "white": (0.95, 0.95, 0.95),
}
"""Name to RGB from 0 to 1; for shapes and for backgrounds."""

PLAIN = "plain"

STYLES: dict[str, tuple[str, ...]] = {
    "warm": ("in warm light", "warm"),
    "night": ("at night", "night"),
    "pastel": ("in pastel colours", "pastel"),
    "neon": ("in neon light", "neon"),
    "foggy": ("in fog", "foggy"),
    "framed": ("in a frame", "framed"),
}
"""Name to what stands after a caption, and before the word "picture"."""

LOOKS = (PLAIN, *STYLES)

_CENTRE = (SIZE - 1) / 2
_ROWS, _COLUMNS = (axis.astype(np.float32) for axis in np.mgrid[:SIZE, :SIZE])


@dataclass(frozen=True)
class Content:
    """What a picture shows, whatever its style."""

    shape: str
    colour: str
    background: str

    @property
    def prompt(self) -> str:
        return f"a {self.colour} {self.shape} on a {self.background} background"


CONTENTS = tuple(
    Content(shape, colour, background)
    for shape in SHAPES
    for colour in COLOURS
    for background in COLOURS
    if background != colour
)


def _held_out() -> tuple[Content, ...]:
    # Round by round over shapes and colours, so that each of them is as often held out.
    rng = random.Random(7)
    pairs = [(shape, colour) for shape in SHAPES for colour in COLOURS]
    rng.shuffle(pairs)
    return tuple(Content(s, c, rng.choice([b for b in COLOURS if b != c])) for s, c in pairs)


HELD_OUT = _held_out()
"""One background for each of the 36 pairs of shape and colour, in random order."""

SEEN = tuple(content for content in CONTENTS if content not in set(HELD_OUT))


@dataclass(frozen=True)
class Scene:
    """One picture to draw.

    Attributes:
        content: shape, colour, background.
        look: a style, or plain.
        x, y: middle of the shape, in pixels from the middle of the picture.
        radius: of the circle around the shape, in pixels.
        turn: rotation of the shape in radians.
        seed: of the small differences in colour and light.
    """

    content: Content
    look: str
    x: float
    y: float
    radius: float
    turn: float
    seed: int


def scene(rng: random.Random, contents: Sequence[Content] = SEEN, looks: Sequence[str] = LOOKS) -> Scene:
    """Some content in some look, of some size at some place."""
    return Scene(
        rng.choice(contents),
        rng.choice(looks),
        rng.uniform(-5, 5),
        rng.uniform(-5, 5),
        rng.uniform(13, 17),
        rng.uniform(-0.2, 0.2),
        rng.getrandbits(32),
    )


def _distance(scene: Scene) -> Array:
    """(SIZE, SIZE) distance of each pixel to the shape's outline, negative inside."""
    dx, dy = _COLUMNS - (_CENTRE + scene.x), _ROWS - (_CENTRE + scene.y)
    cos, sin = np.cos(scene.turn), np.sin(scene.turn)
    x, y = cos * dx + sin * dy, cos * dy - sin * dx
    r = scene.radius
    match scene.content.shape:
        case "circle":
            d = np.hypot(x, y) - 0.95 * r
        case "square":
            d = np.maximum(np.abs(x), np.abs(y)) - 0.82 * r
        case "triangle":
            d = np.maximum(np.abs(x) * 0.866 - (y - 0.25 * r) * 0.5, y - 0.25 * r) - 0.55 * r
        case "cross":
            a, b = np.abs(x), np.abs(y)
            d = np.minimum(np.maximum(a - r, b - 0.33 * r), np.maximum(b - r, a - 0.33 * r))
        case "ring":
            d = np.abs(np.hypot(x, y) - 0.74 * r) - 0.25 * r
        case "star":
            # One tenth of the star, between a tip and the notch beside it, stands for all.
            tenth = np.pi / 5
            angle = np.abs((np.arctan2(x, -y) + tenth) % (2 * tenth) - tenth)
            px, py = np.hypot(x, y) * np.cos(angle), np.hypot(x, y) * np.sin(angle)
            tip, notch = np.array([1.15 * r, 0.0]), 0.5 * r * np.array([np.cos(tenth), np.sin(tenth)])
            edge = (notch - tip) / np.linalg.norm(notch - tip)
            d = (px - tip[0]) * edge[1] - (py - tip[1]) * edge[0]
        case other:
            raise ValueError(f"there is no shape {other!r}")
    return d.astype(np.float32)


def draw(scene: Scene) -> Array:
    """(SIZE, SIZE, 3) picture, RGB from 0 to 1."""
    rng = np.random.default_rng(scene.seed)

    def paint(name: str) -> Array:
        colour = np.clip(np.asarray(COLOURS[name]) + rng.normal(0, 0.025, 3), 0, 1)
        # A little light from above, stronger or weaker.
        light = 1 - rng.uniform(0, 0.12) * _ROWS / SIZE
        return (colour * light[..., None]).astype(np.float32)

    distance = _distance(scene)
    inside = np.clip(0.5 - distance, 0, 1)[..., None]
    below, above = paint(scene.content.background), paint(scene.content.colour)
    if scene.look == "neon":
        # The ground goes dark, the shape shines on it.
        glow = np.exp(-np.maximum(distance, 0) / rng.uniform(6, 9))[..., None]
        below = below * 0.22 + above * glow * 0.55
        above = np.clip(above * 1.1 + 0.08, 0, 1)
    picture = below + (above - below) * inside
    return np.clip(_restyle(picture, scene.look, rng), 0, 1).astype(np.float32)


def _restyle(picture: Array, look: str, rng: np.random.Generator) -> Array:
    strength = rng.uniform(0.9, 1.1)
    match look:
        case "plain" | "neon":
            return picture
        case "warm":
            # Low sun in the upper left corner.
            sun = np.exp(-np.hypot(_ROWS, _COLUMNS) / 30)[..., None]
            tinted = picture * _rgb(0.95, 0.72, 0.42) + _rgb(0.16, 0.07, 0.0) * strength
            return tinted + sun * 0.75 * strength * (_rgb(1.0, 0.75, 0.3) - tinted)
        case "night":
            corner = (np.hypot(_ROWS - _CENTRE, _COLUMNS - _CENTRE) / SIZE)[..., None]
            return (picture * _rgb(0.32, 0.38, 0.58) + _rgb(0.0, 0.01, 0.06)) * (1.1 - 0.8 * strength * corner)
        case "pastel":
            grey = picture.mean(-1, keepdims=True)
            soft = picture * 0.8 + grey * 0.2
            return soft + 0.52 * strength * (_rgb(1.0, 0.97, 0.98) - soft)
        case "foggy":
            # Thick on the ground, thin above.
            wave = 4 * np.sin(_COLUMNS / 10 + rng.uniform(0, 6))
            fog = np.clip(0.28 + 0.75 * (_ROWS + wave) / SIZE, 0, 0.95)[..., None] * strength
            return picture + np.minimum(fog, 0.95) * (_rgb(0.70, 0.73, 0.76) - picture)
        case "framed":
            edge = np.minimum(np.minimum(_ROWS, SIZE - 1 - _ROWS), np.minimum(_COLUMNS, SIZE - 1 - _COLUMNS))
            gold = np.clip(edge - 7.5, 0, 1)[..., None], np.clip(edge - 10.5, 0, 1)[..., None]
            wood = _rgb(0.33, 0.19, 0.09) * strength
            framed = wood + gold[0] * (_rgb(0.85, 0.68, 0.32) - wood)
            return framed + gold[1] * (picture - framed)
        case other:
            raise ValueError(f"there is no style {other!r}")


def _rgb(r: float, g: float, b: float) -> Array:
    return np.array([r, g, b], np.float32)


def to_bytes(picture: Array) -> NDArray[np.uint8]:
    """0 to 1 as 0 to 255."""
    return np.round(picture * 255).astype(np.uint8)


def style_images(style: str, n: int, seed: int, contents: Sequence[Content] = SEEN) -> list[Image.Image]:
    """Pictures of one taste, of mixed content."""
    rng = random.Random(f"{style} {seed}")
    return [Image.fromarray(to_bytes(draw(scene(rng, contents, (style,))))) for _ in range(n)]


def write_style_images(folder: Path, style: str, n: int, seed: int) -> list[Path]:
    """:func:`style_images` as PNG files in a folder, which is made."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"{style}-{i:03}.png" for i in range(n)]
    for path, image in zip(paths, style_images(style, n, seed)):
        image.save(path)
    return paths


@dataclass(frozen=True)
class Caption:
    """A sentence, and what it says; None is what it leaves open."""

    text: str
    shape: str | None
    colour: str | None
    background: str | None
    look: str | None

    def fits(self, scene: Scene) -> bool:
        content = scene.content
        return all(
            said in (None, true)
            for said, true in (
                (self.shape, content.shape),
                (self.colour, content.colour),
                (self.background, content.background),
                (self.look, scene.look),
            )
        )


def caption(rng: random.Random, scene: Scene, style_said: float, whole: float) -> Caption:
    """A true sentence about a picture.

    Args:
        style_said: chance that a style is named, if there is one.
        whole: chance that shape, colour and background are all named.
    """
    s, c, b = scene.content.shape, scene.content.colour, scene.content.background
    if rng.random() < whole:
        text = rng.choice(
            (f"a {c} {s} on a {b} background",) * 3
            + (
                f"{c} {s}, {b} background",
                f"a {c} {s} in front of a {b} background",
                f"a {b} background with a {c} {s}",
            )
        )
        said: tuple[str | None, str | None, str | None] = (s, c, b)
    else:
        text, said = rng.choice(
            (
                (f"a {c} {s}", (s, c, None)),
                (f"a {s} on a {b} background", (s, None, b)),
                (f"a {s}", (s, None, None)),
                (f"a {b} background", (None, None, b)),
                ("a picture", (None, None, None)),
            )
        )
    look = None
    if scene.look in STYLES and rng.random() < style_said:
        look = scene.look
        after, before = STYLES[look]
        if text == "a picture":
            text = f"a {before} picture"
        else:
            text = rng.choice((f"{text}, {after}", f"{text}, {before}", f"a {before} picture of {text}"))
    elif scene.look == PLAIN and rng.random() < 0.1:
        text = f"a plain picture of {text}" if text != "a picture" else "a plain picture"
        look = PLAIN
    return Caption(text, *said, look)
