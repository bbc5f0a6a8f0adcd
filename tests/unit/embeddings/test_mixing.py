"""Mixtures and likeness."""

import pytest
import torch
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from aesthetic_clip.embeddings.embedding import Embedding
from aesthetic_clip.embeddings.mixing import mix, nearest, similarity_matrix
from aesthetic_clip.errors import AestheticError
from aesthetic_clip.geometry import unit
from aesthetic_clip.spaces import VIT_BIGG, VIT_H, VIT_L, Space


def embedding(name: str, seed: int, *spaces: Space) -> Embedding:
    generator = torch.Generator().manual_seed(seed)
    return Embedding(name, {s: unit(torch.randn(s.dim, generator=generator)) for s in spaces or (VIT_L,)})


A, B = embedding("a", 1, VIT_L, VIT_BIGG), embedding("b", 2, VIT_BIGG, VIT_L, VIT_H)


def test_mix_in_the_common_spaces() -> None:
    mixed = mix([A, B], [0.7, 0.3], "m")
    assert list(mixed.vectors) == [VIT_L, VIT_BIGG]
    for space, vector in mixed.vectors.items():
        assert torch.allclose(vector, unit(0.7 * A.vectors[space] + 0.3 * B.vectors[space]), atol=1e-6)
        assert vector.dtype == torch.float32
    assert mixed.name == "m"
    assert mixed.metadata["mixed_from"] == "a:0.7 b:0.3"
    assert mixed.metadata["created"]


def test_direction() -> None:
    direction = mix([A, B], [1, -1], "d").vectors[VIT_L]
    assert torch.allclose(direction, unit(A.vectors[VIT_L] - B.vectors[VIT_L]), atol=1e-6)
    assert float(direction @ A.vectors[VIT_L]) > 0 > float(direction @ B.vectors[VIT_L])


@hypothesis_settings(max_examples=100, deadline=None)
@given(st.lists(st.floats(-1e6, 1e6), min_size=2, max_size=2), st.floats(1e-6, 1e6))
def test_only_the_ratio_of_weights_counts(weights: list[float], scale: float) -> None:
    if max(map(abs, weights)) < 1e-3:
        return
    one, other = mix([A, B], weights, "x"), mix([A, B], [w * scale for w in weights], "x")
    assert torch.allclose(one.vectors[VIT_L], other.vectors[VIT_L], atol=1e-5)
    assert float(one.vectors[VIT_L].norm()) == pytest.approx(1, abs=1e-6)


@pytest.mark.parametrize(
    ("embeddings", "weights", "reason"),
    [
        ([], [], "0 embeddings"),
        ([A], [1, 2], "1 embeddings and 2 weights"),
        ([A, B], [0, 0], "weights"),
        ([A, B], [1, float("nan")], "weights"),
        ([A, B], [float("inf"), 1], "weights"),
        ([A, A], [1, -1], "cancel out"),
        ([embedding("l", 1), embedding("h", 2, VIT_H)], [1, 1], "no CLIP space: 'l' has ViT-L/14.*; 'h' has ViT-H/14"),
    ],
)
def test_mix_refuses(embeddings: list[Embedding], weights: list[float], reason: str) -> None:
    with pytest.raises(AestheticError, match=reason):
        mix(embeddings, weights, "m")


def test_similarity_matrix() -> None:
    matrix = similarity_matrix([A, B, A], VIT_L)
    assert matrix.shape == (3, 3)
    assert torch.equal(matrix, matrix.T)
    assert torch.allclose(matrix.diagonal(), torch.ones(3), atol=1e-6)
    assert matrix[0, 1] == pytest.approx(float(A.vectors[VIT_L] @ B.vectors[VIT_L]), abs=1e-6)
    with pytest.raises(AestheticError, match="'a' have no vector"):
        similarity_matrix([A, B], VIT_H)
    with pytest.raises(AestheticError, match="none"):
        similarity_matrix([], VIT_H)


def test_nearest() -> None:
    close = mix([A, B], [0.9, 0.1], "close")
    far, elsewhere = mix([A, B], [-1, 0.1], "far"), embedding("h", 3, VIT_H)
    found = nearest(A, [far, B, A, elsewhere, close], 2)
    assert [name for name, _ in found] == ["close", "b"]
    assert found[0][1] > 0.9
    assert nearest(elsewhere, [A], 5) == []
