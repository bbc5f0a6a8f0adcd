"""Where the WebUI's embeddings are, and what the settings may say about it."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pytest

from .conftest import NAMES
from .host import Host


def embeddings(host: Host) -> Any:
    return host.extension("hosts.a1111.options").embeddings()


def test_new_ones_go_to_the_models_and_not_into_the_extension(host: Host, data_dir: Path) -> None:
    folders = embeddings(host).folders
    assert folders[0] == data_dir / "models" / "aesthetic_embeddings"
    extension = Path(host.extension("hosts.a1111.options").EXTENSION)
    assert extension / "aesthetic_embeddings" in folders
    assert not folders[0].is_relative_to(extension)


@pytest.mark.parametrize("folder", ["~nosuchuser/x", "/x/" + "y" * 300, "a\0b", "caf\udce9", "/dev/null", "  ", '""'])
def test_a_folder_that_is_none_takes_nothing_away(host: Host, folder: str, caplog: pytest.LogCaptureFixture) -> None:
    with host.options(aesthetic_embeddings_dir=folder), caplog.at_level(logging.WARNING):
        for _ in range(2):
            assert set(NAMES) <= set(embeddings(host).names())
    told = [record.getMessage() for record in caplog.records if "left out" in record.getMessage()]
    assert len(told) == (1 if folder.strip('" ') else 0)


def test_a_text_projection_in_nobodys_home_is_a_path_like_any_other(host: Host) -> None:
    with host.options(aesthetic_text_projection="~nosuchuser/model.safetensors"):
        path = host.extension("hosts.a1111.options").projection_sources().path
    assert path == Path("~nosuchuser/model.safetensors")


def test_a_tag_in_prompt_editing_is_refused_with_a_sentence(host: Host) -> None:
    with pytest.raises(Exception, match="some of the steps only"):
        host.encode(prompt="[<aesthetic:one:0.9>:0.5] a cat")
