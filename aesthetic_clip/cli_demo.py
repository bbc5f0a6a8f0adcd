"""The subcommand ``demo``: the whole way from pictures to a personalised prompt, offline and in seconds.

Its CLIP is small and has random weights. It shows that the machinery runs, not what a taste looks like.
"""

from __future__ import annotations

import argparse
import random
import tempfile
from pathlib import Path

from PIL import Image, ImageDraw

from .settings import BY_NAME, Settings

_WIDTH = 64
_PICTURES = 24


def arguments(parser: argparse.ArgumentParser) -> None:
    steps = BY_NAME["steps"]
    parser.add_argument("--prompt", default="a lighthouse at the sea", help="default: %(default)s")
    parser.add_argument("--steps", default=str(steps.default), help=f"{steps.help} Default: %(default)s.")


def run(args: argparse.Namespace) -> None:
    # Here, so that the other commands start without these libraries.
    import open_clip
    import torch
    import transformers

    from .create import create, to_embedding
    from .encoder_files import Checkpoint
    from .images import find_images
    from .personalize import personalize
    from .spaces import space_of
    from .text_encoder import TransformersTextEncoder
    from .vision import load

    transformers.utils.logging.disable_progress_bar()
    settings = Settings.from_mapping({"steps": args.steps})
    torch.manual_seed(0)
    text_model = transformers.CLIPTextModel(
        transformers.CLIPTextConfig(
            hidden_size=_WIDTH, intermediate_size=2 * _WIDTH, num_hidden_layers=4, num_attention_heads=4
        )
    )
    vision_model = transformers.CLIPVisionModelWithProjection(
        transformers.CLIPVisionConfig(
            hidden_size=_WIDTH,
            intermediate_size=2 * _WIDTH,
            num_hidden_layers=2,
            num_attention_heads=4,
            image_size=64,
            patch_size=16,
            projection_dim=_WIDTH,
        )
    )
    text_encoder = TransformersTextEncoder(
        text_model.eval().requires_grad_(False), torch.randn(_WIDTH, _WIDTH) / _WIDTH**0.5
    )
    with tempfile.TemporaryDirectory() as folder:
        pictures, model = Path(folder, "pictures"), Path(folder, "model")
        _draw_sunsets(pictures)
        vision_model.save_pretrained(model)
        image_encoder = load(space_of(_WIDTH), Checkpoint("transformers", model, "random weights, for demonstration"))
        result = create(find_images([pictures]), [image_encoder])
        embedding = to_embedding(result, "sunsets")
    print(
        f"embedding {embedding.name!r}: {result.used} pictures, {len(result.skipped)} skipped, "
        f"mean cosine {result.mean_cosine[image_encoder.space]:.3f}"
    )

    ids = open_clip.tokenize([args.prompt])[0]
    end = int(ids.argmax())

    def encode(one: torch.Tensor) -> tuple[torch.Tensor, None]:
        return text_model(input_ids=one).last_hidden_state, None

    with torch.no_grad():
        ordinary = encode(ids.unsqueeze(0))
    before = {name: value.clone() for name, value in text_model.state_dict().items()}
    encoded = personalize(
        text_encoder, ids, end, embedding.vectors[image_encoder.space], settings, ordinary, encode, lambda step: None
    )
    print(f"prompt {args.prompt!r}: similarity to the embedding")
    for step, similarity in enumerate(encoded.similarities):
        print(f"  step {step}: {similarity:+.4f}")
    change = (encoded.hidden - ordinary[0]).norm() / ordinary[0].norm()
    same = all(torch.equal(value, before[name]) for name, value in text_model.state_dict().items())
    print(
        f"conditioning changed by {change:.1%}, the text encoder's own weights {'did not change' if same else 'CHANGED'}"
    )


def _draw_sunsets(folder: Path) -> None:
    """Pictures of one taste: a red sky, a low sun, a dark sea."""
    folder.mkdir()
    draws = random.Random(0)
    for number in range(_PICTURES):
        picture = Image.new("RGB", (96, 96))
        draw = ImageDraw.Draw(picture)
        horizon, sun = draws.randrange(48, 72), draws.randrange(16, 80)
        for y in range(96):
            glow = y / horizon if y < horizon else 0.3
            draw.line((0, y, 96, y), (round(90 + 160 * min(glow, 1)), round(30 + 90 * min(glow, 1)), 60))
        draw.ellipse((sun - 12, horizon - 20, sun + 12, horizon + 4), (255, 220, 120))
        draw.rectangle((0, horizon, 96, 96), (30, 25, draws.randrange(50, 80)))
        picture.save(folder / f"{number:02d}.jpg")
