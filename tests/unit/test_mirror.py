"""Where the tests of a module are: in the file of its name in the same room, or where this table says."""

from __future__ import annotations

from pathlib import Path

import pytest

TESTS = Path(__file__).resolve().parents[1]
PACKAGE = TESTS.parent / "aesthetic_clip"

# A module, or a whole room with a slash at its end, and the file or folder that drives it.
ELSEWHERE = {
    "cli/": "unit/cli/test_main.py",
    "cli/encode.py": "unit/cli/test_txt2img.py",
    "cli/gen_aesthetic_embedding.py": "unit/cli/test_paper.py",
    "cli/knobs.py": "unit/test_knobs_everywhere.py",
    "cli/ui.py": "unit/pages/test_local_page.py",
    "clip/image_encoder_files.py": "unit/clip/test_image_encoder.py",
    "clip/optimisable.py": "unit/hosts/diffusers/test_callers.py",
    "clip/tower_files.py": "unit/clip/test_completed.py",
    "create/groups.py": "unit/embeddings/test_verdict.py",
    "create/image_files.py": "unit/create/test_hostile_pictures.py",
    "create/image_headers.py": "unit/create/test_hostile_pictures.py",
    "create/limits.py": "unit/create/test_pictures.py",
    "create/loader.py": "unit/create/test_pictures.py",
    "create/metadata_table.py": "unit/create/test_metadata_filter.py",
    "create/parts.py": "unit/create/test_features_npy.py",
    "create/statistics.py": "unit/create/test_pictures.py",
    "demo/": "unit/demo/test_model.py",
    "embeddings/bins.py": "unit/embeddings/test_library.py",
    "embeddings/moving.py": "unit/embeddings/test_writers.py",
    "embeddings/profile_files.py": "unit/embeddings/test_profiles.py",
    "hosts/a1111/": "webui_modules/test_conditioning.py",
    "hosts/a1111/api.py": "webui/test_rest.py",
    "hosts/a1111/callbacks.py": "webui/test_lifecycle.py",
    "hosts/a1111/families/": "webui_modules/test_conditioning.py",
    "hosts/a1111/families/engines.py": "webui_modules/test_engines.py",
    "hosts/a1111/families/sd3.py": "webui/test_sd3.py",
    "hosts/a1111/image_encoders.py": "webui/test_create_tab.py",
    "hosts/a1111/jobs.py": "webui/test_create_tab.py",
    "hosts/a1111/options.py": "webui_modules/test_folders.py",
    "hosts/a1111/page/": "webui/test_create_tab.py",
    "hosts/a1111/page/card_editor.py": "webui/test_picker.py",
    "hosts/a1111/page/cards.py": "webui/test_tags.py",
    "hosts/a1111/page/painting.py": "webui/test_card_pictures.py",
    "hosts/a1111/page/shelf.py": "webui/test_picker.py",
    "hosts/a1111/page/switch.py": "webui/test_switch.py",
    "hosts/a1111/page/thumbs.py": "webui/test_thumbs.py",
    "hosts/a1111/page/trying.py": "webui/test_trying.py",
    "hosts/a1111/page/twins.py": "webui/test_twins.py",
    "hosts/a1111/schedules.py": "webui_modules/test_schedules.py",
    "hosts/a1111/script.py": "webui/test_api.py",
    "hosts/a1111/looking.py": "webui/test_thumbs.py",
    "hosts/a1111/xyz.py": "unit/test_knobs_everywhere.py",
    "hosts/diffusers/encoders.py": "unit/hosts/diffusers/test_prompts.py",
    "hosts/diffusers/generator.py": "unit/cli/test_txt2img.py",
    "hosts/diffusers/infotext.py": "unit/cli/test_txt2img.py",
    "hosts/diffusers/noise.py": "unit/cli/test_paper.py",
    "hosts/diffusers/private.py": "unit/hosts/diffusers/test_callers.py",
    "method/adam.py": "unit/method/test_personalize.py",
    "method/modes.py": "unit/method/test_memory.py",
    "method/optimize.py": "unit/method/test_personalize.py",
    "pages/": "unit/pages/test_local_page.py",
    "pages/jobs.py": "unit/pages/test_forms.py",
    "pages/messages.py": "unit/pages/test_markup.py",
    "pages/tab/": "unit/pages/test_forms.py",
    "readers/": "unit/readers/test_hostile.py",
}
MODULES = [
    path.relative_to(PACKAGE) for path in sorted(PACKAGE.rglob("*.py")) if path.stem not in ("__init__", "__main__")
]


def where_tested(module: Path) -> Path | None:
    mirror = TESTS / "unit" / module.parent / f"test_{module.stem}.py"
    if mirror.is_file():
        return mirror
    folders = [f"{folder.as_posix()}/" for folder in module.parents]
    named = next((ELSEWHERE[place] for place in (module.as_posix(), *folders) if place in ELSEWHERE), None)
    return None if named is None else TESTS / named


@pytest.mark.parametrize("module", MODULES, ids=str)
def test_every_module_has_its_tests_where_one_looks(module: Path) -> None:
    found = where_tested(module)
    assert found is not None and found.is_file()


@pytest.mark.parametrize("place", ELSEWHERE)
def test_the_table_is_about_what_there_is(place: str) -> None:
    assert (PACKAGE / place).exists()
    assert not (TESTS / "unit" / Path(place).parent / f"test_{Path(place).stem}.py").exists() or place.endswith("/")
