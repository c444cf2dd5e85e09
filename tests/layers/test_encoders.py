"""ResNets that take torchvision's weights, and views of pictures."""

import pytest
import torch
import torchvision

from cocktail.layers.encoders import IMAGENET_MEAN, IMAGENET_STD, AudioEncoder, VisualEncoder
from cocktail.layers.resnet import ResNet18
from cocktail.layers.views import to_pictures, view_names, view_of, views_of


@pytest.fixture
def theirs() -> torchvision.models.ResNet:
    torch.manual_seed(0)
    model = torchvision.models.resnet18(weights=None).eval()
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            assert module.running_mean is not None and module.running_var is not None
            module.running_mean.normal_()
            module.running_var.uniform_(0.5, 2)
    return model


def test_with_torchvisions_weights_it_is_torchvisions_network(theirs):
    ours = ResNet18().eval()
    ours.load_torchvision(theirs.state_dict())
    images = torch.rand(2, 3, 64, 96)
    whole = torch.nn.Sequential(*list(theirs.children())[:-2])
    torch.testing.assert_close(ours(images), whole(images))


def test_fewer_stages_take_the_first_of_torchvisions(theirs):
    ours = ResNet18(stages=2).eval()
    ours.load_torchvision(theirs.state_dict())
    images = torch.rand(1, 3, 64, 96)
    first = torch.nn.Sequential(*list(theirs.children())[:6])
    torch.testing.assert_close(ours(images), first(images))
    assert ours(images).shape == (1, 128, 8, 12)


def test_a_dilated_last_stage_is_the_plain_one_on_each_of_four_grids_of_cells(theirs):
    """Torchvision dilates no BasicBlock. But the dilated stage of a picture is the plain stage of the picture, and of
    what lies one cell below, beside it, or both, interleaved, away from the border."""
    plain, dilated, before = (
        ResNet18(stages=2).eval(),
        ResNet18(stages=2, dilated=True).eval(),
        ResNet18(stages=1).eval(),
    )
    for model in (plain, dilated, before):
        model.load_torchvision(theirs.state_dict())
    assert dilated.state_dict().keys() == plain.state_dict().keys()
    assert (before.stride, dilated.stride, plain.stride) == (4, 4, 8)
    images = torch.rand(1, 3, 96, 112)
    cells, fine = before(images), dilated(images)
    assert cells.shape[2:] == fine.shape[2:] == (24, 28)
    inside = (..., slice(4, -4), slice(4, -4))
    for row in (0, 1):
        for column in (0, 1):
            shifted = torch.nn.functional.pad(cells[..., row:, column:], (0, column, 0, row))
            coarse = plain.layer2(shifted)[inside]
            torch.testing.assert_close(fine[..., row::2, column::2][inside], coarse)
            assert coarse.numel() > 0


def test_a_dilated_stage_is_written_out(theirs):
    """The first of its convolutions lost its stride, and the shortcut, too; the other three read every second cell."""
    ours = ResNet18(dilated=True).eval()
    ours.load_torchvision(theirs.state_dict())
    images = torch.rand(1, 3, 64, 96)
    x = torch.nn.Sequential(*list(theirs.children())[:7])(images)
    for number, block in enumerate(theirs.layer4):
        first, others = (1 if number == 0 else 2), 2
        y = torch.nn.functional.conv2d(x, block.conv1.weight, padding=first, dilation=first)
        y = block.bn1(y).relu()
        y = block.bn2(torch.nn.functional.conv2d(y, block.conv2.weight, padding=others, dilation=others))
        if block.downsample is not None:
            x = block.downsample[1](torch.nn.functional.conv2d(x, block.downsample[0].weight))
        x = (x + y).relu()
    torch.testing.assert_close(ours(images), x)


@pytest.mark.parametrize(("width", "dilated"), [(4, False), (4, True), (8, False)])
def test_gradients_are_those_of_double_precision_however_features_are_laid_out(width, dilated):
    torch.manual_seed(0)
    ours, gradients = ResNet18(width=width, stages=3, dilated=dilated).double().eval(), []
    images = torch.rand(2, 3, 32, 64, dtype=torch.float64)
    for form in (torch.float64, torch.float32):
        module = ours.to(form, memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
        inputs = images.to(form).contiguous(memory_format=torch.channels_last)
        gradients.append(torch.autograd.grad(module(inputs).sum(), list(module.parameters())))
    for exact, rounded in zip(*gradients, strict=True):
        torch.testing.assert_close(rounded, exact.float(), rtol=1e-3, atol=1e-3)


def test_pictures_are_normalised_as_torchvisions_networks_expect(theirs):
    encoder = VisualEncoder(16).eval()
    encoder.resnet.load_torchvision(theirs.state_dict())
    pictures = torch.randint(0, 256, (1, 64, 96, 3), dtype=torch.uint8)
    scaled = (pictures[0] / 255 - torch.tensor(IMAGENET_MEAN)) / torch.tensor(IMAGENET_STD)
    cells = encoder.project(encoder.resnet(scaled.permute(2, 0, 1)[None]))
    expected = torch.nn.functional.normalize(cells, dim=1).flatten(2).transpose(1, 2)
    torch.testing.assert_close(encoder(pictures), expected, rtol=1e-4, atol=1e-5)
    assert expected.shape == (1, 6, 16)


def test_a_sound_is_one_vector_by_the_maximum_over_cells_or_one_a_cell():
    torch.manual_seed(0)
    pooled, mapped = AudioEncoder(8, "pooled", 2).eval(), AudioEncoder(8, "map", 2).eval()
    mapped.load_state_dict(pooled.state_dict())
    spectra = torch.rand(3, 1, 257, 300)
    cells = pooled.resnet(spectra).flatten(2)
    assert mapped(spectra).shape == (3, 9 * 10, 8)
    expected = torch.nn.functional.normalize(pooled.project(cells.amax(dim=2)), dim=1)
    torch.testing.assert_close(pooled(spectra)[:, 0], expected)


def test_pictures_side_by_side_are_left_to_right_in_the_order_of_the_sources():
    pictures = torch.arange(2 * 2 * 4 * 4 * 3).view(2, 2, 4, 4, 3)
    wide = views_of(pictures, "wide")
    assert wide.shape == (2, 1, 4, 8, 3)
    assert wide[:, 0, :, :4].equal(pictures[:, 0])
    assert wide[:, 0, :, 4:].equal(pictures[:, 1])
    assert views_of(pictures, "split") is pictures


def test_a_source_is_sought_in_its_own_picture_if_there_are_several_views():
    class_ids = torch.tensor([[5, 6, 7]])
    assert view_of(class_ids, torch.zeros(1, 1)).tolist() == [0, 0, 0]
    assert view_of(class_ids, torch.zeros(1, 3)).tolist() == [0, 1, 2]
    assert view_names(torch.zeros(1, 1), "split") == ["wide"]
    assert view_names(torch.zeros(1, 2), "split") == ["split", "wide"]


def test_maps_are_interpolated_between_the_middles_of_cells():
    maps = to_pictures(torch.tensor([[[0.0, 1.0, 2.0, 3.0]]]), height=64, stride=32)
    assert maps.shape == (1, 1, 64, 64)
    assert maps[0, 0, :16, :16].eq(0).all()  # outside the outermost middles nothing changes
    assert maps[0, 0, -16:, -16:].eq(3).all()
    torch.testing.assert_close(maps[0, 0, 31:33, 31:33].mean(), torch.tensor(1.5))
