"""Separators that see answer what they do not see by subtraction (AVSA-Sep, eq. 3)."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch

from cocktail.audio.mixing import mix
from cocktail.layers.masking import BY_SUBTRACTED_MAGNITUDES, BY_SUBTRACTION, SOFT_MASKS
from cocktail.types import Query
from tests.made.models.small_avsa_sep import TRIO
from tests.made.models.small_pixel_separators import PIXEL_SEPARATORS
from tests.made.models.subtracted import assert_what_is_not_seen_is_what_is_left


@pytest.fixture(params=PIXEL_SEPARATORS)
def model(request) -> Any:
    """One that tells sounds and pictures apart before anything is learned."""
    torch.manual_seed(0)
    model: Any = PIXEL_SEPARATORS[request.param].build(5).eval()
    if request.param != "co_separation":
        with torch.no_grad():
            model.visual_encoder.project.weight.mul_(3)
            model.mask_head.weight.mul_(30)
    return model


def test_what_is_not_seen_is_what_is_left_of_the_mixture(model):
    own = assert_what_is_not_seen_is_what_is_left(model, TRIO)
    soft = [SOFT_MASKS] if model.config.masks == "binary" else []
    assert list(own.alternatives) == [*soft, BY_SUBTRACTION, BY_SUBTRACTED_MAGNITUDES]
    assert TRIO.seen is not None and own.estimates[~TRIO.seen].eq(0).all()
    all_seen = replace(Query.of(TRIO), seen=Query.of(TRIO).asked)
    assert list(model.separate(mix(TRIO)[0], all_seen).alternatives) == soft


def test_pictures_that_are_withheld_are_not_looked_at(model):
    mixture, query = mix(TRIO)[0], Query.of(TRIO)
    own = model.separate(mixture, query)
    assert query.pictures is not None and query.seen is not None
    noise = torch.randint(0, 256, query.pictures.shape, dtype=torch.uint8)
    shown = query.seen[..., None, None, None, None]
    other = model.separate(mixture, replace(query, pictures=torch.where(shown, query.pictures, noise)))
    for name in (BY_SUBTRACTION, BY_SUBTRACTED_MAGNITUDES):
        assert other.alternatives[name].estimates.equal(own.alternatives[name].estimates)
