"""An AVSA-Sep that is built in milliseconds; the scenes of `small_sound_of_pixels` are to be seen and heard by it."""

from __future__ import annotations

import dataclasses

import torch
from torch import Tensor

from cocktail.audio.stft import FrontEndConfig
from cocktail.models.avsa_sep import AVSASep, AVSASepConfig
from cocktail.types import MixtureBatch, Separation
from tests.made.models.small_sound_of_pixels import seen_and_heard

SMALL = AVSASepConfig(
    num_maps=8,
    unet_width=4,
    unet_depth=5,
    conv_init_std=0.02,
    input_norm="mixture",
    resnet_width=8,
    visual_stages=2,
    initial_weights="none",
    front_end=FrontEndConfig(n_fft=254, hop_length=64, num_rows=64),
)


def showing(batch: MixtureBatch, seen: list[list[bool]]) -> MixtureBatch:
    """A batch with the pictures of some sources withheld."""
    assert batch.pictures is not None
    shown = torch.tensor(seen)
    return dataclasses.replace(batch, seen=shown, pictures=batch.pictures * shown[..., None, None, None, None])


BATCH = seen_and_heard([[0, 3], [2, 1]])
PARTLY = showing(BATCH, [[True, False], [False, True]])
TRIO = showing(seen_and_heard([[0, 3, 4], [2, 1, 0]]), [[True, False, False], [False, True, True]])


def telling_apart() -> AVSASep:
    """One that tells sounds, pictures and labels apart before anything is learned."""
    torch.manual_seed(0)
    model = SMALL.build(5)
    assert model.visual_encoder is not None
    with torch.no_grad():
        model.visual_encoder.project.weight.mul_(3)
        model.label_alignment.weight.mul_(3)
        model.mask_head.weight.mul_(30)
    return model


def changed(model: AVSASep, **settings) -> AVSASep:
    """The same weights, as far as there are such, under other settings."""
    other = dataclasses.replace(model.config, **settings).build(5)
    own = other.state_dict()
    other.load_state_dict({name: value for name, value in model.state_dict().items() if name in own})
    return other.train(model.training)


def masks_of(separation: Separation) -> Tensor:
    assert separation.masks is not None
    return separation.masks


def told(model: AVSASep, visible: list[int], audible: list[int]) -> None:
    """Let the parser say that these classes are seen, and these heard, the first of them surest."""
    assert model.parser is not None
    with torch.no_grad():
        for head, classes in ((model.parser.visible_head, visible), (model.parser.audible_head, audible)):
            head.linear.weight.zero_()
            head.linear.bias.fill_(-2.0)
            for place, label in enumerate(classes):
                head.linear.bias[label] = 3.0 - place
