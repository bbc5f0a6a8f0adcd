"""The mean of features, however they are divided up."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from aesthetic_clip.create.averaging import FeatureSum
from aesthetic_clip.errors import AestheticError

FEATURES = torch.randn(20, 8, generator=torch.Generator().manual_seed(3)) + 1


@pytest.mark.parametrize("raw", [False, True])
@pytest.mark.parametrize("at", [1, 7, 19])
def test_parts_merge_to_the_mean_of_all(raw: bool, at: int) -> None:
    wide = FEATURES.double().numpy()
    counted = wide if raw else wide / np.linalg.norm(wide, axis=1, keepdims=True)
    mean = counted.mean(0)
    first, second = FeatureSum(8, raw), FeatureSum(8, raw)
    first.add(FEATURES[:at])
    second.add(FEATURES[at:])
    first.merge(second)
    assert first.count == 20
    assert np.allclose(first.vector.numpy(), mean / np.linalg.norm(mean), atol=1e-6)
    if not raw:
        assert first.mean_cosine == pytest.approx(float((counted @ (mean / np.linalg.norm(mean))).mean()), abs=1e-9)


def test_parts_of_two_kinds_do_not_merge() -> None:
    with pytest.raises(AestheticError, match="can't be merged"):
        FeatureSum(8).merge(FeatureSum(8, raw=True))


def test_pictures_that_cancel_out_have_no_mean() -> None:
    total = FeatureSum(8)
    total.add(torch.stack((FEATURES[0], -FEATURES[0])))
    with pytest.raises(AestheticError, match="no mean"):
        _ = total.vector
