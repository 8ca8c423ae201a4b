"""The objectives of the two networks of StarGAN, term by term and without their loss weights."""
from __future__ import annotations

__all__ = ["discriminator_terms", "generator_terms", "gradient_penalty"]

from collections.abc import Callable

import torch
from torch import nn
from torch.nn import functional as F


def gradient_penalty(
    critic: Callable[[torch.Tensor], torch.Tensor], real: torch.Tensor, fake: torch.Tensor, mix: torch.Tensor,
) -> torch.Tensor:
    """Return E[(‖∇D_src(x̂)‖₂ − 1)²], x̂ = mix · real + (1 − mix) · fake (Choi et al., CVPR 2018, Eq. 8).

    Always in float32 or wider, also under autocast: the penalty is the square of a
    difference of gradients (ours).

    Args:
        critic: D_src. The penalty takes the gradient of the sum of its outputs for an image.
        real: (N, …) real images.
        fake: (N, …) generated images.
        mix: N numbers in [0, 1], in any shape that broadcasts.

    Returns:
        Scalar with a gradient for the critic.

    >>> images = torch.zeros(2, 3, 4, 4)
    >>> gradient_penalty(lambda x: 3 * x[:, 0, 0, 0], images, images, torch.rand(2, 1, 1, 1)).item()
    4.0
    """
    with torch.autocast(real.device.type, enabled=False):
        dtype = torch.promote_types(real.dtype, torch.float32)
        mixed = torch.lerp(fake.detach().to(dtype), real.detach().to(dtype), mix.to(dtype)).requires_grad_()
        (gradients,) = torch.autograd.grad(critic(mixed).sum(), mixed, create_graph=True)
        norms: torch.Tensor = torch.linalg.vector_norm(gradients.flatten(1), dim=1)
        return (norms - 1).square().mean()


def discriminator_terms(
    discriminator: nn.Module, real: torch.Tensor, cameras: torch.Tensor, fake: torch.Tensor, mix: torch.Tensor,
) -> dict[str, torch.Tensor]:
    """Return the terms that the discriminator minimises (Choi et al., CVPR 2018, Eq. 2, 5 and 8).

    Args:
        discriminator: maps images to (patch scores, camera logits).
        real: (N, 3, H, W) images.
        cameras: (N,) int64 labels of ``real``.
        fake: (N, 3, H, W) generated images, which get no gradient.
        mix: see :func:`gradient_penalty`.

    Returns:
        Scalars: ``critic`` = E[D_src(fake)] − E[D_src(real)], ``penalty`` (loss
        weight λ_gp), and ``camera_real``, the cross-entropy of the cameras of
        real images (loss weight λ_cls).
    """
    scores, logits = discriminator(real)
    return {
        "critic": discriminator(fake.detach())[0].float().mean() - scores.float().mean(),
        "penalty": gradient_penalty(lambda images: discriminator(images)[0], real, fake, mix),
        "camera_real": F.cross_entropy(logits.float(), cameras),
    }


def generator_terms(
    generator: nn.Module, discriminator: nn.Module, real: torch.Tensor, cameras: torch.Tensor, targets: torch.Tensor,
) -> dict[str, torch.Tensor]:
    """Return the terms that the generator minimises (Choi et al., CVPR 2018, Eq. 3, 4, 6 and 8).

    Args:
        generator: maps (images, labels) to images.
        discriminator: maps images to (patch scores, camera logits).
        real: (N, 3, H, W) images.
        cameras: (N,) int64 labels of ``real``.
        targets: (N,) int64 labels of the cameras to imitate.

    Returns:
        Scalars: ``adversarial`` = −E[D_src(G(x, c))], ``camera_fake``, the
        cross-entropy of c on G(x, c) (loss weight λ_cls), and ``reconstruction`` =
        E|x − G(G(x, c), c')|, the mean over pixels and channels (loss weight λ_rec).
    """
    fake = generator(real, targets)
    scores, logits = discriminator(fake)
    return {
        "adversarial": -scores.float().mean(),
        "camera_fake": F.cross_entropy(logits.float(), targets),
        "reconstruction": F.l1_loss(generator(fake, cameras).float(), real),
    }
