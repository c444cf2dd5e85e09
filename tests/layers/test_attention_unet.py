"""Gates on the skips of the U-Net."""

from typing import Any

import torch

from cocktail.layers.attention_unet import AttentionUNet, SkipGate
from cocktail.layers.unet import UNet


def built(kind: type[UNet]) -> UNet:
    torch.manual_seed(0)
    return kind(width=4, depth=5, conv_init_std=0.1).eval()


def test_open_gates_leave_the_plain_unet(monkeypatch):
    gated, plain = built(AttentionUNet), built(UNet)
    plain.load_state_dict({k: v for k, v in gated.state_dict().items() if not k.startswith("gates.")})
    spectrogram = torch.randn(2, 1, 64, 96)
    assert not torch.allclose(gated(spectrogram), plain(spectrogram), atol=1e-3)
    monkeypatch.setattr(SkipGate, "openness", lambda self, level, below: torch.ones_like(level[:, :1]))
    assert gated(spectrogram).equal(plain(spectrogram))


def test_a_gate_is_one_map_between_zero_and_one_times_what_lies_beside():
    torch.manual_seed(0)
    gate = SkipGate(6, 10).double()
    level, below = torch.randn(2, 6, 8, 12).double(), torch.randn(2, 10, 4, 6).double()
    let_through = gate(level, below)
    psi = gate.openness(level, below)
    assert psi.shape == (2, 1, 8, 12) and 0 < psi.min() < psi.max() < 1
    torch.testing.assert_close(let_through, psi * level)
    assert (let_through.abs() <= level.abs()).all() and (let_through.sign() == level.sign()).all()


def test_a_gate_is_the_papers_with_what_comes_from_below_raised_first():
    torch.manual_seed(0)
    gate = SkipGate(6, 10).double().eval()
    for module in gate.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            for tensor in (module.running_mean, module.bias.data, module.weight.data):
                assert tensor is not None
                torch.nn.init.normal_(tensor)
    level, below = torch.randn(2, 6, 8, 12).double(), torch.randn(2, 10, 4, 6).double()
    raised = torch.nn.functional.interpolate(below, scale_factor=2, mode="bilinear", align_corners=True)
    expected = gate.to_map((gate.of_level(level) + gate.of_below(raised)).relu()).sigmoid()
    torch.testing.assert_close(gate.openness(level, below), expected)


def test_each_level_but_the_narrowest_has_a_gate():
    gates: Any = AttentionUNet(width=8, depth=7).gates
    channels = [gate.of_level[0].in_channels for gate in gates]
    assert channels == [64, 64, 64, 32, 16, 8]
    assert [gate.of_below[0].in_channels for gate in gates] == [64, 128, 128, 128, 64, 32]
    assert [gate.of_level[0].out_channels for gate in gates] == [width // 2 for width in channels]
