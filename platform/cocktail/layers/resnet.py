"""ResNet-18 (He et al., CVPR 2016) without its pooling and classifier, for pictures and for spectrograms.

Shape letters: B batch, H and W height and width.
"""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.models.resnet import BasicBlock


class ResNet18(nn.Module):
    """Feature maps [B, out_channels, ceil(H / stride), ceil(W / stride)] of images [B, channels, H, W].

    The paper's has width 64 and four stages: 512 channels and a stride of 32 pixels. Each cell of it sees 435 pixels;
    of three stages 211, of two 99.

    `dilated` leaves out the stride of the last of several stages, and reads its convolutions but the first from every
    second cell: maps are twice as fine, and cells see as far (Sound of Pixels, section 3.1).

    Its parameters have torchvision's names, so that torchvision's files fit. At the start they are drawn after Kaiming.
    """

    def __init__(self, in_channels: int = 3, width: int = 64, stages: int = 4, dilated: bool = False) -> None:
        super().__init__()
        self.out_channels = width * 2 ** (stages - 1)
        self.stride = stride_of(stages, dilated)
        self.conv1 = nn.Conv2d(in_channels, width, kernel_size=7, stride=2, padding=3, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.relu = nn.ReLU(inplace=True)
        self.maxpool = nn.MaxPool2d(kernel_size=3, stride=2, padding=1)
        self.layer1 = _stage(width, width, stride=1)
        self.layer2 = _stage(width, 2 * width, stride=2) if stages > 1 else nn.Identity()
        self.layer3 = _stage(2 * width, 4 * width, stride=2) if stages > 2 else nn.Identity()
        self.layer4 = _stage(4 * width, 8 * width, stride=2) if stages > 3 else nn.Identity()
        if dilated:
            _dilate(self.get_submodule(f"layer{stages}"))
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, images: Tensor) -> Tensor:
        x = self.maxpool(self.relu(self.bn1(self.conv1(images))))
        return self.layer4(self.layer3(self.layer2(self.layer1(x))))

    def load_torchvision(self, state: Mapping[str, Tensor]) -> None:
        """Take torchvision's weights, less its classifier and the stages that this one has not.

        Raises RuntimeError if they are of another network.
        """
        width = len(self.bn1.weight)
        theirs = len(state.get("bn1.weight", self.bn1.weight))
        if theirs != width:
            raise RuntimeError(f"it is {theirs} channels wide, the network {width}: set model.resnet_width {theirs}")
        own = {name.partition(".")[0] for name in self.state_dict()}
        self.load_state_dict({name: value for name, value in state.items() if name.partition(".")[0] in own})


def stride_of(stages: int, dilated: bool = False) -> int:
    """Input pixels per output cell, in height and width."""
    return 4 * 2 ** (stages - 2 if dilated else stages - 1)


class _Shortcut(nn.Conv2d):
    """A convolution of 1 x 1, which first leaves out the cells between its strides where channels are few.

    Torch 2.14's own writes beside its memory in the backward pass on CPUs, of fewer than eight channels in float32 that
    are laid out channels last.
    """

    def __init__(self, in_channels: int, channels: int, stride: int) -> None:
        super().__init__(in_channels, channels, kernel_size=1, stride=stride, bias=False)

    def forward(self, input: Tensor) -> Tensor:
        if self.in_channels >= 8:
            return super().forward(input)
        rows, columns = self.stride
        return F.conv2d(input[:, :, ::rows, ::columns], self.weight)


def _stage(in_channels: int, channels: int, stride: int) -> nn.Sequential:
    shortcut = None
    if stride != 1:
        shortcut = nn.Sequential(_Shortcut(in_channels, channels, stride), nn.BatchNorm2d(channels))
    return nn.Sequential(BasicBlock(in_channels, channels, stride, shortcut), BasicBlock(channels, channels))


def _dilate(stage: nn.Module) -> None:
    """Let a stage keep the size of its input: the convolution that had a stride is then as it is without one, and those
    behind it, which had cells twice as far apart, are dilated by two."""
    for module in stage.modules():
        if isinstance(module, nn.Conv2d):
            if module.stride == (2, 2):
                module.stride = (1, 1)
            elif module.kernel_size == (3, 3):
                module.dilation = module.padding = (2, 2)
