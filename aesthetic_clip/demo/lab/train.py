"""Trains the demonstration model from nothing: ``python -m aesthetic_clip.demo.lab.train --out DIR``.

In this order, unless some are named: the autoencoder, CLIP, the classifier that
measures, the decoder again with the encoder as it is, the UNet, and the assembly
of the finished model. Each stage keeps its state in ``--work`` every half minute
and goes on from there when started again; those that do not need each other can
run at the same time.
"""

from __future__ import annotations

import argparse
import copy
import json
import math
import os
import random
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.torch
import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional as F

from ...clip.preprocess import CLIP_MEAN, CLIP_STD, normalise
from .. import world
from . import architecture
from .tokenizer import write_tokenizer

STAGES = ("vae", "clip", "classifier", "decoder", "unet", "assemble")
MINUTES = {"vae": 22.0, "clip": 20.0, "classifier": 4.0, "decoder": 8.0, "unet": 32.0}
"""On two CPU cores."""
_SAVE_SECONDS = 30
_LONGEST_STEP = 10
_LOG_STEPS = 50
_EMA = 0.998


def pictures(scenes: list[world.Scene]) -> Tensor:
    """(B, 3, SIZE, SIZE), uint8."""
    return torch.from_numpy(np.stack([world.to_bytes(world.draw(scene)) for scene in scenes])).permute(0, 3, 1, 2)


def pictures_of(images: list[Image.Image]) -> Tensor:
    """(B, 3, SIZE, SIZE), uint8."""
    return torch.from_numpy(np.stack([np.array(image) for image in images])).permute(0, 3, 1, 2)


def pixels(images: Tensor) -> Tensor:
    """uint8 to -1 to 1."""
    return images.to(_device()).float() / 127.5 - 1


def pool(folder: Path, count: int, seed: int) -> tuple[list[world.Scene], Tensor]:
    """Training pictures, drawn once; they follow from the seed, so only pixels are kept."""
    rng = random.Random(seed)
    scenes = [world.scene(rng) for _ in range(count)]
    path = folder / f"pool-{seed}-{count}.pt"
    if not path.exists():
        _save(path, pictures(scenes))
    return scenes, _load(path)


def _device() -> torch.device:
    """What ``main`` has chosen for everything that torch makes."""
    return torch.empty(0).device


def _load(path: Path) -> Any:
    return torch.load(path, map_location=_device(), weights_only=True)


def _save(path: Path, content: Any) -> None:
    temporary = path.with_suffix(".tmp")
    torch.save(content, temporary)
    os.replace(temporary, path)


class Stage:
    """One model's training: a time budget, a falling learning rate, averaged weights, states on the disk.

    Args:
        name: of its files in ``folder``.
        model: what is trained, in place.
        minutes: of training, earlier runs included.
        lr: the highest learning rate.
        decay: of AdamW.
    """

    def __init__(
        self, name: str, model: nn.Module, folder: Path, minutes: float, lr: float, decay: float = 0.01
    ) -> None:
        self.name, self.model, self.folder, self.minutes, self.lr = name, model, folder, minutes, lr
        self.ema = copy.deepcopy(model).eval().requires_grad_(False)
        self.optimizer = torch.optim.AdamW(model.parameters(), lr, (0.9, 0.99), weight_decay=decay)
        self.step, self.seconds = 0, 0.0
        self.path = folder / f"{name}.pt"
        if self.path.exists():
            state = _load(self.path)
            model.load_state_dict(state["model"])
            self.ema.load_state_dict(state["ema"])
            self.optimizer.load_state_dict(state["optimizer"])
            self.step, self.seconds = state["step"], state["seconds"]

    def save(self) -> None:
        _save(
            self.path,
            {
                "model": self.model.state_dict(),
                "ema": self.ema.state_dict(),
                "optimizer": self.optimizer.state_dict(),
                "step": self.step,
                "seconds": self.seconds,
            },
        )

    def run(self, loss: Callable[[random.Random], dict[str, Tensor]]) -> nn.Module:
        """Train until the time is up.

        Args:
            loss: one batch's losses by name, from a generator of its own; "loss" is what is minimised.

        Returns:
            The averaged weights, as a model.
        """
        self.model.train()
        saved = time.monotonic()
        sums: dict[str, float] = {}
        while self.seconds < 60 * self.minutes:
            start = time.monotonic()
            done = self.seconds / (60 * self.minutes)
            rate = self.lr * min(1.0, (self.step + 1) / 100) * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * done)))
            for group in self.optimizer.param_groups:
                group["lr"] = rate
            # A generator per step: what a run has seen does not depend on where it was cut.
            torch.manual_seed(self.step)
            losses = loss(random.Random(f"{self.name} {self.step}"))
            self.optimizer.zero_grad()
            losses["loss"].backward()
            nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
            self.optimizer.step()
            self.step += 1
            keep = min(_EMA, self.step / (self.step + 20))
            with torch.no_grad():
                for mean, new in zip(self.ema.state_dict().values(), self.model.state_dict().values()):
                    mean.lerp_(new, 1 - keep) if mean.is_floating_point() else mean.copy_(new)
            for key, value in losses.items():
                sums[key] = sums.get(key, 0.0) + float(value.detach())
            now = time.monotonic()
            # A machine that slept meanwhile has not trained.
            self.seconds += min(now - start, _LONGEST_STEP)
            if self.step % _LOG_STEPS == 0:
                numbers = " ".join(f"{key} {value / _LOG_STEPS:.4f}" for key, value in sums.items())
                print(
                    f"{self.name} step {self.step} minute {self.seconds / 60:.1f} lr {rate:.2g} {numbers}", flush=True
                )
                sums = {}
            if now - saved > _SAVE_SECONDS:
                self.save()
                saved = now
        self.save()
        return self.ema


def train_vae(folder: Path, minutes: float) -> None:
    model = architecture.new_vae()

    def loss(rng: random.Random) -> dict[str, Tensor]:
        target = pixels(pictures([world.scene(rng) for _ in range(8)]))
        with torch.autocast(_device().type, torch.bfloat16):
            posterior = model.encode(target).latent_dist
            restored = model.decode(posterior.sample()).sample.float()
        square = F.mse_loss(restored, target)
        # Only enough of it to keep the latents near the origin and smooth.
        kl = posterior.kl().float().mean() / posterior.mean[0].numel()
        return {"loss": square + 0.5 * F.l1_loss(restored, target) + 2e-4 * kl, "mse": square, "kl": kl}

    Stage("vae", model, folder, minutes, 1.5e-3, 0.0).run(loss)


def preprocess(images: Tensor) -> Tensor:
    """uint8 to what the vision tower takes."""
    return normalise(images.to(_device()), CLIP_MEAN, CLIP_STD)


def roughened(rng: random.Random, images: Tensor) -> Tensor:
    """Some of the float pictures a little blurred or noisy, as what a decoder makes is."""
    soft = [i for i in range(len(images)) if rng.random() < 0.3]
    images[soft] = F.avg_pool2d(F.pad(images[soft], (1, 1, 1, 1), "replicate"), 3, 1)
    noisy = torch.rand(len(images), 1, 1, 1) < 0.3
    return images + noisy * torch.randn_like(images) * 0.04


class Words:
    """Captions to token ids, each sentence tokenised once."""

    def __init__(self, folder: Path) -> None:
        from transformers import CLIPTokenizer

        write_tokenizer(folder / "tokenizer")
        self.tokenizer = CLIPTokenizer.from_pretrained(str(folder / "tokenizer"))
        self._known: dict[str, list[int]] = {}

    def __call__(self, texts: list[str], length: int = architecture.MAX_TOKENS) -> Tensor:
        for text in texts:
            if text not in self._known:
                self._known[text] = self.tokenizer(text).input_ids
        rows = [self._known[text] for text in texts]
        return torch.tensor([row + [architecture.END] * (length - len(row)) for row in rows])


def train_clip(folder: Path, minutes: float, images: int) -> None:
    clip = architecture.new_clip()
    fields = architecture.Classifier.FIELDS
    heads = nn.ModuleDict({name: nn.Linear(architecture.WIDTH, len(values)) for name, values in fields.items()})
    scenes, pictures_ = pool(folder, images, 1)
    truth = labels(scenes)
    words = Words(folder)

    def loss(rng: random.Random) -> dict[str, Tensor]:
        places = rng.sample(range(images), 128)
        captions = [world.caption(rng, scenes[i], style_said=0.7, whole=0.6) for i in places]
        # A sentence is right for every picture that it is true of, not only for its own.
        shown = {name: values[places] for name, values in truth.items()}
        said = {name: said_values(captions, name) for name in fields}
        fits = (
            torch.stack([(said[n][:, None] == _OPEN) | (said[n][:, None] == shown[n]) for n in fields]).all(0).float()
        )
        ids = words([c.text for c in captions], 24)
        view = roughened(rng, preprocess(pictures_[places]))
        out = clip(input_ids=ids, pixel_values=view)
        of_text, of_image = F.normalize(out.text_embeds, dim=-1), F.normalize(out.image_embeds, dim=-1)
        similarity = of_text @ of_image.T
        logits = similarity * clip.logit_scale.exp().clamp(max=30)
        by_text = -(F.log_softmax(logits, 1) * fits / fits.sum(1, keepdim=True)).sum(1).mean()
        by_image = -(F.log_softmax(logits, 0) * fits / fits.sum(0, keepdim=True)).sum(0).mean()
        right = fits.gather(1, logits.argmax(1, keepdim=True)).mean()
        # One reader for both sides: what a feature says of the shape is said alike whatever the colour,
        # so that combinations that were never shown can be understood.
        read = torch.stack(
            [
                F.cross_entropy(_SHARPNESS * head(feature), values[name], ignore_index=_OPEN)
                for name, head in heads.items()
                for feature, values in ((of_image, shown), (of_text, said))
            ]
        ).mean()
        contrast = (by_text + by_image) / 2
        own = similarity.diag().mean()
        return {"loss": contrast + read, "contrast": contrast, "read": read, "right": right, "own": own}

    Stage("clip", nn.ModuleDict({"clip": clip, "heads": heads}), folder, minutes, 1.5e-3, 0.05).run(loss)


_OPEN = -1
"""Instead of a label: the caption does not say."""

_SHARPNESS = 10
"""Of what is read off a feature of length 1."""


def said_values(captions: list[world.Caption], field: str) -> Tensor:
    """(B,) what the captions say of a field, as labels."""
    names = architecture.Classifier.FIELDS[field]
    said = [getattr(caption, field) for caption in captions]
    return torch.tensor([_OPEN if value is None else names.index(value) for value in said])


def trained_clip(folder: Path) -> Any:
    """The averaged CLIP of the last state, frozen, without what was only for training."""
    clip = architecture.new_clip()
    state = _load(folder / "clip.pt")["ema"]
    clip.load_state_dict({k.removeprefix("clip."): v for k, v in state.items() if k.startswith("clip.")})
    return clip.eval().requires_grad_(False)


def train_classifier(folder: Path, minutes: float, images: int) -> None:
    model = architecture.Classifier()
    # Of all contents, since it has to judge pictures of held-out ones.
    rng = random.Random(3)
    scenes = [world.scene(rng, world.CONTENTS) for _ in range(images)]
    path = folder / f"pool-classifier-{images}.pt"
    if not path.exists():
        _save(path, pictures(scenes))
    pictures_ = _load(path)
    truth = labels(scenes)

    def loss(rng: random.Random) -> dict[str, Tensor]:
        places = rng.sample(range(images), 64)
        logits = model(roughened(rng, pixels(pictures_[places])))
        losses = {name: F.cross_entropy(logits[name], truth[name][places]) for name in truth}
        return {"loss": torch.stack(list(losses.values())).sum(), **losses}

    Stage("classifier", model, folder, minutes, 3e-3, 0.01).run(loss)


def labels(scenes: list[world.Scene]) -> dict[str, Tensor]:
    """The right answers for :class:`architecture.Classifier`."""
    fields = architecture.Classifier.FIELDS
    values = [{**vars(scene.content), "look": scene.look} for scene in scenes]
    return {name: torch.tensor([names.index(v[name]) for v in values]) for name, names in fields.items()}


def averaged(folder: Path, name: str, model: Any) -> Any:
    """The model with the averaged weights of its last state, frozen."""
    model.load_state_dict(_load(folder / f"{name}.pt")["ema"])
    return model.eval().requires_grad_(False)


def latents(folder: Path, images: int) -> tuple[list[world.Scene], Tensor, Tensor]:
    """Scenes of the pool, their pictures, and the encoder's (N, 2, 4, 8, 8) means and deviations of them.

    Made once: from then on the encoder has to stay as it is.
    """
    scenes, pictures_ = pool(folder, images, 1)
    path = folder / "latents.pt"
    if not path.exists():
        vae = averaged(folder, "vae", architecture.new_vae())
        rows = []
        with torch.no_grad(), torch.autocast(_device().type, torch.bfloat16):
            for batch in pictures_.split(64):
                posterior = vae.encode(pixels(batch)).latent_dist
                rows.append(torch.stack([posterior.mean.float(), posterior.std.float()], 1))
        _save(path, {"encoder": vae.state_dict(), "latents": torch.cat(rows)})
    return scenes, pictures_, _load(path)["latents"]


def sample(moments: Tensor) -> Tensor:
    return moments[:, 0] + moments[:, 1] * torch.randn_like(moments[:, 1])


def scaling_factor(moments: Tensor) -> float:
    """What gives the latents the deviation 1."""
    return 1 / float((moments[:, 0].var() + moments[:, 1].square().mean()).sqrt())


def train_decoder(folder: Path, minutes: float, images: int) -> None:
    _, pictures_, moments = latents(folder, images)
    vae = architecture.new_vae()
    vae.load_state_dict(_load(folder / "latents.pt")["encoder"])
    model = nn.ModuleDict({"post_quant_conv": vae.post_quant_conv, "decoder": vae.decoder})

    def loss(rng: random.Random) -> dict[str, Tensor]:
        places = rng.sample(range(images), 8)
        target = pixels(pictures_[places])
        with torch.autocast(_device().type, torch.bfloat16):
            restored = vae.decode(sample(moments[places])).sample.float()
        square = F.mse_loss(restored, target)
        return {"loss": square + 0.5 * F.l1_loss(restored, target), "mse": square}

    Stage("decoder", model, folder, minutes, 8e-4, 0.0).run(loss)


def whole_vae(folder: Path) -> Any:
    """The autoencoder with the decoder that was trained on after it, if one was."""
    if not (folder / "latents.pt").exists():
        return averaged(folder, "vae", architecture.new_vae())
    vae = architecture.new_vae()
    vae.load_state_dict(_load(folder / "latents.pt")["encoder"])
    if (folder / "decoder.pt").exists():
        decoder = _load(folder / "decoder.pt")["ema"]
        vae.load_state_dict({**vae.state_dict(), **decoder})
    return vae.eval().requires_grad_(False)


def new_scheduler() -> Any:
    """Stable Diffusion's own noise schedule."""
    from diffusers import DDIMScheduler

    return DDIMScheduler(
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        clip_sample=False,
        set_alpha_to_one=False,
        steps_offset=1,
    )


def train_unet(folder: Path, minutes: float, images: int) -> None:
    scenes, _, moments = latents(folder, images)
    moments = moments * scaling_factor(moments)
    text = trained_clip(folder).text_model
    words = Words(folder)
    known: dict[str, Tensor] = {}
    alphas = new_scheduler().alphas_cumprod
    model = architecture.new_unet()
    # Plain pictures more often than one of seven, and styles nearly always named:
    # a prompt that names no style is to give a plain picture, mostly.
    by_look: dict[bool, list[int]] = {True: [], False: []}
    for i, scene in enumerate(scenes):
        by_look[scene.look == world.PLAIN].append(i)

    def loss(rng: random.Random) -> dict[str, Tensor]:
        places = [rng.choice(by_look[rng.random() < 0.3]) for _ in range(32)]
        captions = [world.caption(rng, scenes[i], style_said=0.95, whole=0.9).text for i in places]
        # Some without words, since guidance needs to know those.
        captions = ["" if rng.random() < 0.1 else caption for caption in captions]
        new = sorted({caption for caption in captions if caption not in known})
        if new:
            with torch.no_grad():
                known.update(zip(new, text(words(new)).last_hidden_state.half()))
        hidden = torch.stack([known[caption] for caption in captions]).float()
        clean = sample(moments[places])
        noise = torch.randn_like(clean)
        times = torch.randint(0, len(alphas), (len(places),))
        alpha = alphas[times].view(-1, 1, 1, 1)
        noisy = alpha.sqrt() * clean + (1 - alpha).sqrt() * noise
        return {"loss": F.mse_loss(model(noisy, times, hidden).sample, noise)}

    Stage("unet", model, folder, minutes, 1.2e-3, 0.0).run(loss)


def assemble(folder: Path, out: Path) -> None:
    """Write the finished model: a diffusers ``StableDiffusionPipeline`` in half precision, and what measures it."""
    from diffusers import StableDiffusionPipeline
    from transformers import CLIPTextModel, CLIPVisionModelWithProjection

    clip = trained_clip(folder)
    text = CLIPTextModel(clip.config.text_config)
    text.load_state_dict(_fitting(clip, text))
    vision_config = clip.config.vision_config
    vision_config.projection_dim = architecture.WIDTH
    vision = CLIPVisionModelWithProjection(vision_config)
    vision.load_state_dict(_fitting(clip, vision))
    vae = whole_vae(folder)
    _, _, moments = latents(folder, _load(folder / "latents.pt")["latents"].shape[0])
    vae.register_to_config(scaling_factor=round(scaling_factor(moments), 5))
    pipeline = StableDiffusionPipeline(
        vae=vae,
        text_encoder=text,
        tokenizer=Words(folder).tokenizer,
        unet=averaged(folder, "unet", architecture.new_unet()),
        scheduler=new_scheduler(),
        safety_checker=None,
        feature_extractor=None,
        image_encoder=vision,
        requires_safety_checker=False,
    )
    pipeline.to("cpu").to(dtype=torch.float16).save_pretrained(out)
    # The way every version of transformers writes and reads them, in place of the newest's own.
    text_file = out / "text_encoder" / "model.safetensors"
    names = {name: f"text_model.{name.removeprefix('text_model.')}" for name in text.state_dict()}
    _half({names[name]: tensor for name, tensor in text.state_dict().items()}, text_file)
    for old in (out / "tokenizer").iterdir():
        old.unlink()
    write_tokenizer(out / "tokenizer")
    preprocessor = {"image_mean": CLIP_MEAN, "image_std": CLIP_STD, "crop_size": world.SIZE, "size": world.SIZE}
    (out / "image_encoder" / "preprocessor_config.json").write_text(
        json.dumps(preprocessor, indent=1), encoding="utf-8"
    )
    _half({"text_projection.weight": clip.text_projection.weight}, out / "text_projection.safetensors")
    if (folder / "classifier.pt").exists():
        classifier = averaged(folder, "classifier", architecture.Classifier())
        _half(classifier.state_dict(), out / "classifier.safetensors")


def _fitting(source: nn.Module, target: nn.Module) -> dict[str, Tensor]:
    """The tensors of ``source`` by the names of ``target``, where the inner towers are called alike or not at all."""
    have = source.state_dict()
    found = {}
    for name in target.state_dict():
        bare = name.removeprefix("text_model.").removeprefix("vision_model.")
        tower = "text_model." if "text" in type(target).__name__.lower() else "vision_model."
        found[name] = next(have[key] for key in (name, tower + bare, bare) if key in have)
    return found


def _half(tensors: dict[str, Tensor], path: Path) -> None:
    halves = {k: (t.half() if t.is_floating_point() else t).cpu().contiguous() for k, t in tensors.items()}
    safetensors.torch.save_file(halves, str(path), {"format": "pt"})


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m aesthetic_clip.demo.lab.train", description=__doc__)
    parser.add_argument("--out", type=Path, required=True, help="folder of the finished model")
    parser.add_argument("--work", type=Path, default=None, help="folder of the states; by default OUT/../demo-training")
    parser.add_argument("--stages", nargs="+", choices=STAGES, default=STAGES, help="do only these")
    parser.add_argument("--images", type=int, default=12000, help="pictures that are drawn once and shown many times")
    parser.add_argument("--threads", type=int, default=0, help="CPU threads; 0 leaves it to torch")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu", help="default: %(default)s")
    for name, default in MINUTES.items():
        parser.add_argument(f"--{name}-minutes", type=float, default=default, help=f"default {default:g}")
    options = parser.parse_args(arguments)
    if options.threads:
        torch.set_num_threads(options.threads)
    name = torch.cuda.get_device_name(options.device) if options.device.startswith("cuda") else options.device
    print(f"training on {name}")
    with torch.device(options.device):
        _train(options)


def _train(options: argparse.Namespace) -> None:
    folder = options.work or options.out.parent / "demo-training"
    folder.mkdir(parents=True, exist_ok=True)
    minutes = {name: getattr(options, f"{name}_minutes") for name in MINUTES}
    if "vae" in options.stages:
        train_vae(folder, minutes["vae"])
    if "clip" in options.stages:
        train_clip(folder, minutes["clip"], options.images)
    if "classifier" in options.stages:
        train_classifier(folder, minutes["classifier"], options.images)
    if "decoder" in options.stages:
        train_decoder(folder, minutes["decoder"], options.images)
    if "unet" in options.stages:
        train_unet(folder, minutes["unet"], options.images)
    if "assemble" in options.stages:
        assemble(folder, options.out)


if __name__ == "__main__":
    main()
