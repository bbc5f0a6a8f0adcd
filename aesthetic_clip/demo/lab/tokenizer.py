"""CLIP's own tokenizer, from the vocabulary that open_clip carries."""

from __future__ import annotations

import json
from pathlib import Path

from .architecture import MAX_TOKENS


def write_tokenizer(folder: Path) -> None:
    """The files that transformers' ``CLIPTokenizer`` is read from."""
    from open_clip.tokenizer import SimpleTokenizer

    bpe = SimpleTokenizer()
    start, end = "<|startoftext|>", "<|endoftext|>"
    # open_clip 2.x spells the two special tokens otherwise than transformers.
    spelled = {"<start_of_text>": start, "<end_of_text>": end}
    vocabulary = {spelled.get(token, token): index for token, index in bpe.encoder.items()}
    merges = [" ".join(pair) for pair, _ in sorted(bpe.bpe_ranks.items(), key=lambda item: item[1])]
    special = {"bos_token": start, "eos_token": end, "unk_token": end, "pad_token": end}
    settings = {
        **special,
        "add_prefix_space": False,
        "do_lower_case": True,
        "errors": "replace",
        "model_max_length": MAX_TOKENS,
        "tokenizer_class": "CLIPTokenizer",
    }
    folder.mkdir(parents=True, exist_ok=True)
    compact = json.dumps(vocabulary, ensure_ascii=False, separators=(",", ":"))
    (folder / "vocab.json").write_text(compact, encoding="utf-8")
    (folder / "merges.txt").write_text("\n".join(["#version: 0.2", *merges]) + "\n", encoding="utf-8")
    (folder / "special_tokens_map.json").write_text(json.dumps(special, indent=1), encoding="utf-8")
    (folder / "tokenizer_config.json").write_text(json.dumps(settings, indent=1), encoding="utf-8")
