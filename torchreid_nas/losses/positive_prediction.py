"""Graph-based positive prediction (GPP) of ECN++: which of the nearest entries of an image show the same person."""
from __future__ import annotations

__all__ = ["PositivePrediction", "GraphConvolution"]

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from torchreid_nas.errors import InputError


class PositivePrediction(nn.Module):
    r"""Positive prediction on the graph of an anchor's candidates, trained on labelled source images.

    Zhong, Zheng, Luo, Li, Yang. "Learning to Adapt Invariance in Memory for
    Person Re-identification", TPAMI 43(8), 2021 (arXiv 1908.00485), after the
    linkage graph network of Wang et al., "Linkage Based Face Clustering via
    Graph Convolution Network", CVPR 2019.

    From the paper: a graph network chooses reliable neighbours in the memory of
    the target, in place of the k nearest. The graph network is trained on a memory
    of the source, with the labels of the source. From the linkage network: a node
    is a candidate minus its anchor, a layer is :class:`GraphConvolution`, and two
    linear layers with a PReLU between them tell whether a candidate shows the same
    person. They learn by cross-entropy. The paper has no published code, and we had
    no more of its text than the abstract; the rest below is ours, the default K and μ included.

    For a unit anchor a and unit candidates :math:`c_1, …, c_K`:

    .. math::
        x_i &= [\sqrt{D}\, P (c_i - a) \Vert a^\top c_i] \\
        \hat A_{ij} &= \mathrm{softmax}_{j \ne i}(c_i^\top c_j / \tau)

    - Ours: P projects to fewer dimensions, so that the cost of the layers does not grow with D. The factor √D makes the
      input of the layers of order one. The similarity is a node feature too; otherwise the layers would have to learn the
      similarity from D coordinates.
    - Ours: the softmax takes the place of a symmetric normalisation; its rows sum to one. The softmax leaves the own node
      out, which a layer reads separately. A single candidate has no neighbours: Â = 0.
    - Ours: no BatchNorm and no dropout (the linkage network normalises its input over the batch). The result of an image
      depends on the candidates of this image alone, and is the same in training and evaluation.
    - Ours: no gradient flows into the features; anchors and candidates are detached.
    - Ours: the cross-entropy is not weighted for the few positives. The output remains a probability (on the source),
      and the threshold can be read as a probability.
    - Ours: the own entry, where it is among the candidates, counts as a candidate and as a positive. Give the own entry
      on both source and target, or on neither.

    Anchors are walked ``chunk_size`` at a time. Memory beyond the caller's tensors at K = 100 and the default sizes:
    0.6 MB per anchor of a chunk without gradients. With gradients, 1.2 MB per anchor of the batch are kept for the
    backward pass. Entries in half precision are widened, which adds 0.8 MB at D = 2048 and 1.6 MB at D = 4096 to either.

    Args:
        dim: D, length of a feature.
        num_candidates: K, number of nearest entries that are judged; a call may bring fewer.
        hidden: width of each graph convolution; the default has half the widths of the linkage network.
        threshold: μ, the probability above which a candidate is a positive.
        projection: rows of P.
        temperature: τ of the adjacency.
        chunk_size: anchors per step of the walk; the logits do not depend on it.

    Raises:
        InputError: an argument is out of range.

    >>> prediction = PositivePrediction(dim=8, num_candidates=5, hidden=(4,), projection=4)
    >>> anchors, candidates = torch.eye(8)[:2], torch.eye(8)[:5].expand(2, 5, 8)
    >>> prediction(anchors, candidates).shape, prediction.positives(anchors, candidates).dtype
    (torch.Size([2, 5]), torch.bool)
    """

    def __init__(
        self, dim: int, num_candidates: int = 100, hidden: Sequence[int] = (256, 256, 128, 128), threshold: float = 0.9,
        projection: int = 256, temperature: float = 0.2, chunk_size: int = 32,
    ) -> None:
        super().__init__()
        sizes = {"dim": dim, "num_candidates": num_candidates, "projection": projection, "chunk_size": chunk_size}
        sizes.update((f"hidden[{index}]", width) for index, width in enumerate(hidden))
        for name, value in sizes.items():
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise InputError(f"{name} is {value!r}, expected a whole number of at least 1")
        if not hidden:
            raise InputError("hidden is empty, expected the width of one graph convolution at least")
        if not 0 < threshold < 1:
            raise InputError(f"threshold is {threshold}, expected between 0 and 1")
        if not temperature > 0:
            raise InputError(f"temperature is {temperature}, expected above 0")
        self.dim, self.num_candidates, self.chunk_size = dim, num_candidates, chunk_size
        self.threshold, self.temperature = threshold, temperature
        self.projection = nn.Linear(dim, projection, bias=False)
        nn.init.xavier_uniform_(self.projection.weight)
        widths = [projection + 1, *hidden]
        self.layers = nn.ModuleList(GraphConvolution(*pair) for pair in zip(widths, widths[1:]))
        self.classifier = nn.Sequential(
            nn.Linear(widths[-1], widths[-1]), nn.PReLU(widths[-1]), nn.Linear(widths[-1], 1)
        )

    def forward(self, anchors: Tensor, candidates: Tensor) -> Tensor:
        """Compute the logit of the probability that a candidate shows the person of its anchor.

        Args:
            anchors: (B, D), any floating dtype. Anchors and candidates are L2-normalised on the way.
            candidates: (B, K, D), any floating dtype, K at most ``num_candidates``, in any order.

        Returns:
            Logits (B, K) in the dtype of the parameters, float32 unless they were moved.

        Raises:
            InputError: shapes do not fit.
        """
        self._check(anchors, candidates)
        anchors, candidates = anchors.detach(), candidates.detach()
        # Differences of close features lose too much in half precision.
        with torch.autocast(anchors.device.type, enabled=False):
            chunks = zip(torch.split(anchors, self.chunk_size), torch.split(candidates, self.chunk_size))
            return torch.cat([self._logits(*chunk) for chunk in chunks])

    def loss(self, anchors: Tensor, candidates: Tensor, positive: Tensor) -> Tensor:
        """Compute the mean cross-entropy over all candidates of labelled anchors.

        Args:
            anchors: (B, D) source features.
            candidates: (B, K, D) nearest entries of a source memory.
            positive: (B, K) bool, whether the entry has the identity of the anchor.

        Returns:
            Scalar in the dtype of the parameters.

        Raises:
            InputError: shapes do not fit, or ``positive`` is not bool.
        """
        if positive.shape != candidates.shape[:2] or positive.dtype != torch.bool:
            raise InputError(
                f"positive is {tuple(positive.shape)} {positive.dtype}, expected {tuple(candidates.shape[:2])} "
                "torch.bool, one per candidate"
            )
        logits = self(anchors, candidates)
        return F.binary_cross_entropy_with_logits(logits, positive.to(logits))

    @torch.no_grad()
    def positives(self, anchors: Tensor, candidates: Tensor) -> Tensor:
        """Return (B, K) bool: whether the probability of a candidate is above the threshold; arguments as :meth:`forward`."""
        logits: Tensor = self(anchors, candidates)
        return logits.sigmoid() > self.threshold

    def extra_repr(self) -> str:
        """Return sizes, threshold and temperature, for ``repr``."""
        return (
            f"{self.dim}, num_candidates={self.num_candidates}, threshold={self.threshold}, "
            f"temperature={self.temperature}"
        )

    def _check(self, anchors: Tensor, candidates: Tensor) -> None:
        if anchors.ndim != 2 or anchors.shape[1] != self.dim or not len(anchors):
            raise InputError(
                f"anchors is {tuple(anchors.shape)}, expected (batch, {self.dim}) for this positive prediction"
            )
        expected = len(anchors), self.dim
        if (
            candidates.ndim != 3 or (candidates.shape[0], candidates.shape[2]) != expected
            or not 1 <= candidates.shape[1] <= self.num_candidates
        ):
            raise InputError(
                f"candidates is {tuple(candidates.shape)}, expected ({len(anchors)}, 1 to {self.num_candidates}, "
                f"{self.dim}), the nearest entries of each anchor"
            )

    def _logits(self, anchors: Tensor, candidates: Tensor) -> Tensor:
        dtype = self.projection.weight.dtype
        anchors, candidates = F.normalize(anchors.to(dtype)), candidates.to(dtype)
        # The products are divided by the lengths: normalised candidates would be a second (chunk, K, D) tensor.
        inverse = 1 / torch.linalg.vector_norm(candidates, dim=2).clamp(min=1e-12)
        difference = self.projection(candidates) * inverse[:, :, None] - self.projection(anchors)[:, None]
        similarity = torch.einsum("bkd,bd->bk", candidates, anchors) * inverse
        x = torch.cat([math.sqrt(self.dim) * difference, similarity[:, :, None]], dim=2)
        adjacency = self._adjacency(candidates, inverse)
        for layer in self.layers:
            x = layer(x, adjacency)
        logits: Tensor = self.classifier(x.flatten(0, 1))
        return logits.view(x.shape[:2])

    def _adjacency(self, candidates: Tensor, inverse: Tensor) -> Tensor:
        similarity = candidates @ candidates.mT * (inverse[:, :, None] * inverse[:, None])
        own = torch.eye(candidates.shape[1], dtype=torch.bool, device=candidates.device)
        if len(own) == 1:
            return torch.zeros_like(similarity)
        return (similarity / self.temperature).masked_fill_(own, -torch.inf).softmax(dim=2)


class GraphConvolution(nn.Module):
    r"""Graph convolution of the linkage network (Wang et al., CVPR 2019): ReLU([X ‖ ÂX] W + b).

    Args:
        in_features: columns of X.
        out_features: columns of W, which has ``2 * in_features`` rows.

    >>> layer = GraphConvolution(in_features=3, out_features=2)
    >>> layer(torch.zeros(1, 4, 3), torch.zeros(1, 4, 4)).shape
    torch.Size([1, 4, 2])
    """

    def __init__(self, in_features: int, out_features: int) -> None:
        super().__init__()
        self.linear = nn.Linear(2 * in_features, out_features)
        nn.init.xavier_uniform_(self.linear.weight)
        nn.init.zeros_(self.linear.bias)

    def forward(self, x: Tensor, adjacency: Tensor) -> Tensor:
        """Return (B, K, out_features) for nodes ``x`` (B, K, in_features) and Â ``adjacency`` (B, K, K)."""
        return F.relu(self.linear(torch.cat([x, adjacency @ x], dim=2)))
