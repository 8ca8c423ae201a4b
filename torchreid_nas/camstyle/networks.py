"""The two networks of StarGAN: one generator for all cameras, and one discriminator that also names the camera."""
from __future__ import annotations

__all__ = ["Discriminator", "Generator", "label_planes"]

import torch
from torch import nn
from torch.nn import functional as F


def label_planes(cameras: torch.Tensor, num_cameras: int, height: int, width: int) -> torch.Tensor:
    """Return (N, ``num_cameras``, ``height``, ``width``) float32: ones in the plane of each image's camera.

    Args:
        cameras: (N,) int64 labels below ``num_cameras``.
        num_cameras: number of planes.
        height: of the planes.
        width: of the planes.

    >>> label_planes(torch.tensor([1]), num_cameras=2, height=1, width=1).flatten().tolist()
    [0.0, 1.0]
    """
    one_hot = F.one_hot(cameras, num_cameras).float()
    return one_hot[:, :, None, None].expand(-1, -1, height, width)


class Generator(nn.Module):
    """G(x, c) of StarGAN (Choi et al., CVPR 2018, appendix): an image in the style of another camera.

    A 7x7 convolution, two halvings, residual blocks, two doublings and a 7x7
    convolution, with instance norm after every convolution but the last, and tanh
    at the end. The camera enters as further planes of the input. The padding must
    be zeros: instance norm removes what a constant plane adds inside the image, so
    that the label enters at the borders.

    Args:
        num_cameras: number of domains.
        channels: of the first convolution.
        residual_blocks: number of blocks at a quarter of the size.

    >>> generator = Generator(num_cameras=2, channels=4, residual_blocks=1)
    >>> generator(torch.zeros(1, 3, 8, 8), torch.tensor([1])).shape
    torch.Size([1, 3, 8, 8])
    """

    def __init__(self, num_cameras: int, channels: int = 64, residual_blocks: int = 6) -> None:
        super().__init__()
        self.num_cameras = num_cameras
        self.layers = nn.Sequential(
            nn.Conv2d(3 + num_cameras, channels, 7, padding=3, bias=False),
            *_normalised(channels),
            nn.Conv2d(channels, 2 * channels, 4, stride=2, padding=1, bias=False),
            *_normalised(2 * channels),
            nn.Conv2d(2 * channels, 4 * channels, 4, stride=2, padding=1, bias=False),
            *_normalised(4 * channels),
            *(_ResidualBlock(4 * channels) for _ in range(residual_blocks)),
            nn.ConvTranspose2d(4 * channels, 2 * channels, 4, stride=2, padding=1, bias=False),
            *_normalised(2 * channels),
            nn.ConvTranspose2d(2 * channels, channels, 4, stride=2, padding=1, bias=False),
            *_normalised(channels),
            nn.Conv2d(channels, 3, 7, padding=3, bias=False),
            nn.Tanh(),
        )

    def forward(self, images: torch.Tensor, cameras: torch.Tensor) -> torch.Tensor:
        """Return ``images`` in the style of ``cameras``.

        Args:
            images: (N, 3, H, W) in [-1, 1], H and W divisible by 4.
            cameras: (N,) int64 labels below ``num_cameras``.

        Returns:
            (N, 3, H, W) in [-1, 1].
        """
        planes = label_planes(cameras, self.num_cameras, *images.shape[2:])
        return self.layers(torch.cat([images, planes.to(images.dtype)], dim=1))


class Discriminator(nn.Module):
    """D of StarGAN (Choi et al., CVPR 2018, appendix): whether each patch is real, and the camera of the image.

    Convolutions that halve the map, without norm (the gradient penalty is per
    image), then two heads on the last map: a 3x3 convolution scores patches, and a
    convolution as large as the map scores cameras.

    Args:
        num_cameras: number of domains.
        height: of the images in pixels.
        width: of the images in pixels.
        channels: of the first convolution; each further convolution has twice as many.
        layers: number of convolutions that halve; the shorter side divided by 2^layers is at least 1.

    >>> discriminator = Discriminator(num_cameras=3, height=16, width=8, channels=4, layers=2)
    >>> [output.shape for output in discriminator(torch.zeros(1, 3, 16, 8))]
    [torch.Size([1, 1, 4, 2]), torch.Size([1, 3])]
    """

    def __init__(self, num_cameras: int, height: int, width: int, channels: int = 64, layers: int = 6) -> None:
        super().__init__()
        convolutions: list[nn.Module] = []
        inputs = 3
        for layer in range(layers):
            outputs = channels * 2**layer
            convolutions += [nn.Conv2d(inputs, outputs, 4, stride=2, padding=1), nn.LeakyReLU(0.01)]
            inputs = outputs
        self.layers = nn.Sequential(*convolutions)
        self.patches = nn.Conv2d(inputs, 1, 3, padding=1, bias=False)
        self.cameras = nn.Conv2d(inputs, num_cameras, (height >> layers, width >> layers), bias=False)

    def forward(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the scores of D_src and the logits of D_cls.

        Args:
            images: (N, 3, H, W) in [-1, 1].

        Returns:
            (N, 1, H / 2^layers, W / 2^layers) scores of patches, high for real
            patches, and (N, num_cameras) logits.
        """
        features = self.layers(images)
        return self.patches(features), self.cameras(features).flatten(1)


class _ResidualBlock(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(channels, channels, 3, padding=1, bias=False),
            *_normalised(channels),
            nn.Conv2d(channels, channels, 3, padding=1, bias=False),
            nn.InstanceNorm2d(channels, affine=True),
        )

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        return features + self.layers(features)


def _normalised(channels: int) -> tuple[nn.Module, nn.Module]:
    """Return instance norm with a learned affine map, as in the authors' networks, and ReLU."""
    return nn.InstanceNorm2d(channels, affine=True), nn.ReLU(inplace=True)
