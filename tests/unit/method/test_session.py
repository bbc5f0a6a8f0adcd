"""What every host gets from the session, with a host that is a bare text encoder."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
import torch
from torch import Tensor

from aesthetic_clip.clip.text_encoder import TextEncoder
from aesthetic_clip.embeddings.embedding import Embedding
from aesthetic_clip.errors import AestheticError, Interrupted
from aesthetic_clip.geometry import unit
from aesthetic_clip.method.personalize import Chunk
from aesthetic_clip.method.session import Session, text_feature
from aesthetic_clip.method.taste import Taste, taste
from aesthetic_clip.settings import Settings
from aesthetic_clip.spaces import Space, space_of

from ...support.towers import END, PROMPT, START, encode, pad_id, padded, plain_method, transformers_tower


@dataclass(eq=False)
class BareHost:
    """The least that a host is."""

    encoder: TextEncoder

    @property
    def space(self) -> Space:
        return self.encoder.space

    def token_ids(self, text: str) -> Tensor:
        return torch.tensor([START, *(1000 + ord(c) for c in text), END])


def vector(dim: int, seed: int) -> Tensor:
    return unit(torch.randn(dim, generator=torch.Generator().manual_seed(seed)))


def wanted(settings: Settings, *dims: int) -> Taste:
    vectors = {space_of(dim): vector(dim, 1) for dim in dims}
    found = taste(settings, [], lambda name: Embedding(name, vectors))
    assert found is not None
    return found


SETTINGS = Settings(embedding="warm", steps=2, lr=1e-3, weight=1)


@pytest.fixture
def host() -> BareHost:
    return BareHost(transformers_tower())


def chunk(host: BareHost) -> Chunk:
    ids = padded(PROMPT, pad_id(host.encoder))

    def own(one: Tensor) -> tuple[Tensor, None]:
        return encode(host.encoder.module, one), None

    with torch.no_grad():
        return Chunk(ids, len(PROMPT) - 1, own(ids.unsqueeze(0)), own)


def test_a_chunk_is_the_plain_methods(host: BareHost) -> None:
    session = Session(wanted(SETTINGS, 32), [host])
    found = session.personalised(host, one := chunk(host))
    moved, similarities = plain_method(host.encoder, one.ids, vector(32, 1), 2, 1e-3)
    with torch.no_grad():
        assert torch.allclose(found.hidden, encode(moved, one.ids[None]), atol=1e-4)
    ((space, numbers),) = session.report.similarities
    assert space == "CLIP-32" and numbers == pytest.approx(tuple(similarities), abs=1e-5)


def test_the_text_turns_the_target(host: BareHost) -> None:
    plain = Session(wanted(SETTINGS, 32), [host]).personalised(host, chunk(host))
    settings = SETTINGS.replaced({"text": "sun", "slerp_angle": 1})
    turned = Session(wanted(settings, 32), [host]).personalised(host, chunk(host))
    toward_text = unit(text_feature(host, "sun"))
    own = unit(host.encoder.text_feature(torch.tensor(PROMPT)))
    assert turned.similarities[0] == pytest.approx(float(own @ toward_text), abs=1e-5)
    assert plain.similarities[0] == pytest.approx(float(own @ vector(32, 1)), abs=1e-5)


def test_a_text_that_is_too_long_is_refused(host: BareHost) -> None:
    with pytest.raises(AestheticError, match=r"has 76 tokens.*75 at once"):
        text_feature(host, "a" * 76)
    assert text_feature(host, "a" * 75).shape == (32,)


def test_an_embedding_that_fits_no_encoder_is_refused_in_the_hosts_words(host: BareHost) -> None:
    with pytest.raises(
        AestheticError, match=r"warm does not fit the checkpoint.*ViT-L/14.*the checkpoint uses CLIP-32"
    ):
        Session(wanted(SETTINGS, 768), [host], "checkpoint")


def test_an_encoder_without_a_vector_is_left_alone_and_told(host: BareHost) -> None:
    other = BareHost(transformers_tower(dim=48))
    session = Session(wanted(SETTINGS, 32), [host, other])
    assert session.fitting([host, other]) == [host]
    assert session.report.left_alone == ["CLIP-48"]


def test_the_same_chunk_is_not_done_twice(host: BareHost) -> None:
    passes: list[int] = []
    session = Session(wanted(SETTINGS, 32), [host])
    first = session.personalised(host, chunk(host), passes.append, key="a")
    count = len(passes)
    assert session.personalised(host, chunk(host), passes.append, key="a") is first
    assert len(passes) == count
    session.personalised(host, chunk(host), passes.append, key="another layer")
    assert len(passes) == 2 * count
    # The memo is the host's to keep; another taste does not find its chunks.
    again = Session(wanted(SETTINGS.replaced({"steps": 3}), 32), [host], memo=session.memo)
    assert again.personalised(host, chunk(host), key="a") is not first


def test_what_the_memo_holds_is_reported_on_to_each_that_takes_it(host: BareHost) -> None:
    first = Session(goal := wanted(SETTINGS, 32), [host])
    first.personalised(host, chunk(host))
    second = Session(goal, [host], memo=first.memo)
    for _ in range(2):
        second.personalised(host, chunk(host))
    assert second.report.similarities == first.report.similarities
    assert len(second.report.similarities) == 1


def test_with_a_strength_the_steps_taken_are_told(host: BareHost) -> None:
    for strength, taken in ((None, {}), (0.01, {"Aesthetic steps taken": "1"}), (1, {"Aesthetic steps taken": "2"})):
        session = Session(goal := wanted(SETTINGS.replaced({"strength": strength}), 32), [host])
        session.personalised(host, chunk(host))
        assert session.report.parameters(goal) == taken


def test_progress_tells_the_steps_and_stops_them(host: BareHost) -> None:
    told: list[tuple[int, int, str]] = []

    def progress(done: int, total: int, line: str) -> None:
        told.append((done, total, line))
        if done == 1:
            raise Interrupted

    session = Session(wanted(SETTINGS, 32), [host], progress=progress)
    before = {name: tensor.clone() for name, tensor in host.encoder.module.state_dict().items()}
    with pytest.raises(Interrupted):
        session.personalised(host, chunk(host))
    assert told == [
        (0, 2, "Personalising the prompt: step 1 of 2"),
        (1, 2, "Personalising the prompt: step 2 of 2"),
    ]
    told.clear()
    with pytest.raises(Interrupted):
        session.personalised(host, chunk(host), part=(2, 11))
    assert told[0][2] == "Personalising the prompt, part 2 of 11: step 1 of 2"
    assert not session.memo
    assert not session.report.similarities
    assert all(torch.equal(before[name], tensor) for name, tensor in host.encoder.module.state_dict().items())
