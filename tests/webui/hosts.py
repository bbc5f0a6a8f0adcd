"""The hosts that the suite runs in: how each is told, started and furnished, and which tests it leaves out."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..support.checkpoints import Assets, write_all, write_all_full

ALWAYS = (
    "--api",
    "--skip-prepare-environment",
    "--skip-install",
    "--skip-python-version-check",
    "--skip-torch-cuda-test",
)


@dataclass(frozen=True)
class Host:
    """One member of the WebUI's family.

    Attributes:
        name: as docs/hosts.md calls it.
        told_by: a path in its folder that only it has.
        flags: of its launch.py, for the CPU.
        write: small checkpoints and what belongs to them, into a data directory.
        settings: in its config.json besides those of all.
        serves_itself: whether gradio has to be allowed its folder.
        lazy: it loads a checkpoint with the first picture.
        families: the checkpoints of the suite that it loads.
        upscaler: the one of the hires pass.
        payload: what its API wants in a job besides what all want.
    """

    name: str
    told_by: str
    flags: tuple[str, ...]
    write: Callable[[Path], Assets]
    settings: Mapping[str, Any] = field(default_factory=dict)
    serves_itself: bool = False
    lazy: bool = False
    families: tuple[str, ...] = ("sd1-a", "sd1-b", "sd2", "sdxl")
    upscaler: str = "Latent"
    payload: Mapping[str, Any] = field(default_factory=dict)

    def command_flags(self, installation: Path) -> tuple[str, ...]:
        served = ("--gradio-allowed-path", str(installation)) if self.serves_itself else ()
        return (*ALWAYS, *self.flags, *served)


def _small_pages(presets: tuple[str, ...], **more: Any) -> dict[str, Any]:
    """Forge's presets, which overwrite what ui-config.json says, with the pictures of the suite."""
    wanted = {"width": 64, "height": 64, "sampler": "Euler", "scheduler": "Automatic", "cfg": 7, **more}
    return {
        f"{preset}_{tab}_{name}": value
        for preset in presets
        for tab in ("t2i", "i2i")
        for name, value in wanted.items()
    }


# The API takes a job's override of an option back only if the option stands in config.json.
_STORED = {"CLIP_stop_at_last_layers": 1}

# Without them Forge's API answers 500 to a hires pass, and to an infotext.
_LISTS: dict[str, Any] = {"hr_additional_modules": [], "styles": []}

A1111 = Host(
    "AUTOMATIC1111's WebUI",
    "modules/lowvram.py",
    (
        "--use-cpu",
        "all",
        "--no-half",
        "--no-half-vae",
        "--no-download-sd-model",
        "--do-not-download-clip",
        "--disable-console-progressbars",
    ),
    write_all,
)
FORGE = Host(
    "Forge",
    "backend/diffusion_engine/sd20.py",
    ("--always-cpu", "--all-in-fp32"),
    lambda folder: write_all_full(folder, "embeddings"),
    {**_STORED, **_small_pages(("sd", "xl")), "forge_preset": "sd"},
    serves_itself=True,
    lazy=True,
    payload=_LISTS,
)
REFORGE = Host(
    "reForge",
    "ldm_patched/modules/text_encoders/sd2_clip.py",
    ("--always-cpu", "--all-in-fp32"),
    lambda folder: write_all_full(folder, "embeddings"),
    _STORED,
)
CLASSIC = Host(
    "Forge Classic",
    "ldm_patched/modules/sd2_clip.py",
    ("--always-cpu", "--all-in-fp32"),
    lambda folder: write_all_full(folder, "models/embeddings"),
    _STORED,
    families=("sd1-a", "sd1-b", "sdxl"),
)
NEO = Host(
    "Forge Neo",
    "modules_forge/packages",
    ("--cpu",),
    lambda folder: write_all_full(folder, "models/embeddings"),
    {**_STORED, **_small_pages(("sd", "xl"), step=4), "forge_preset": "sd", "VERSION_UID": "PY313"},
    serves_itself=True,
    lazy=True,
    families=("sd1-a", "sd1-b", "sdxl"),
    upscaler="None",
    payload=_LISTS,
)
# A1111's mark is in the others as well.
HOSTS = (NEO, FORGE, REFORGE, CLASSIC, A1111)

_FAMILY = (FORGE, REFORGE, CLASSIC, NEO)

LEFT_OUT: tuple[tuple[tuple[Host, ...], str, str], ...] = (
    (_FAMILY, "test_same_config_reloads_weights", "it builds a new model for every checkpoint"),
    (_FAMILY, "test_changed_cross_attention_option", "it has no such option"),
    (_FAMILY, "test_weights_stored_in_fp8", "it has no such option"),
    (
        (FORGE, NEO),
        "test_an_emptied_number",
        "its gradio does not tell when a field is left; empty is the default there too",
    ),
    ((REFORGE, CLASSIC, NEO), "test_sd3", "made for AUTOMATIC1111's classes and Forge's; Classic and Neo have no SD3"),
    ((A1111, REFORGE, CLASSIC), "test_flux", "made for the classes of Forge and Neo; the others have no Flux"),
    *(
        (_FAMILY, test, "it does not load the demonstration's model, whose UNet is smaller")
        for test in (
            "test_demonstration",
            "test_from_a_fresh_installation_to_a_picture",
            "test_the_create_tab_and_the_thumbs_work_with_its_checkpoint",
            "test_what_is_there_already_stays",
        )
    ),
    ((A1111,), "test_a_host_that_does_not_load_it", "it loads the demonstration's model"),
    ((REFORGE,), "test_a_textual_inversion_is_told_once", "its cache of conditionings tells it twice by itself"),
    ((CLASSIC, NEO), "sd2", "it does not load SD 2.x"),
    ((CLASSIC, NEO), "test_a_checkpoint_with_its_own_text_projection", "it does not load SD 2.x"),
)
"""Hosts, what a test's id contains, and why they leave it out."""


def host_in(installation: Path) -> Host:
    """Which one is installed there.

    Raises:
        ValueError: none of them.
    """
    found = next((host for host in HOSTS if (installation / host.told_by).exists()), None)
    if found is None:
        raise ValueError(f"{installation} is none of {', '.join(host.name for host in HOSTS)}")
    return found


def left_out(host: Host, test: str) -> str | None:
    """Why this host leaves a test out; None if it runs there."""
    return next((why for hosts, part, why in LEFT_OUT if host in hosts and part in test), None)
