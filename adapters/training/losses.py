"""The losses of meta-training, each a mean over queries, classes or weights."""

from __future__ import annotations

import torch
import torch.nn.functional as F  # noqa: N812  # torch's own custom
from torch import Tensor


def per_class_cross_entropy(logit: Tensor, none_logit: Tensor, target: Tensor) -> Tensor:
    """Return the binary cross-entropy of p_c, each class's own queries and all others weighing half.

    L_c = -1/2 mean over own of log p_c - 1/2 mean over others of log(1 - p_c), with p_c = sigmoid(logit_c - none).

    Args:
        logit: of the classes (B, C).
        none_logit: of *none* (B, 1).
        target: class of each query, C for none of them (B,).
    """
    margin = logit - none_logit
    own = F.one_hot(target, logit.shape[1] + 1)[:, :-1].to(logit.dtype)  # (B, C)
    yes = (F.softplus(-margin) * own).sum(dim=0) / own.sum(dim=0).clamp(min=1)
    no = (F.softplus(margin) * (1 - own)).sum(dim=0) / (1 - own).sum(dim=0).clamp(min=1)
    return 0.5 * (yes + no).mean()


def distribution_cross_entropy(logit: Tensor, none_logit: Tensor, target: Tensor) -> Tensor:
    """Return the cross-entropy of N(x), *none* being its last column; shapes as above."""
    return F.cross_entropy(torch.cat([logit, none_logit], dim=1), target)


def naming_cross_entropy(logit: Tensor, target: Tensor) -> Tensor:
    """Return the cross-entropy among the taught classes alone, over the queries that show one."""
    taught = target < logit.shape[1]
    return F.cross_entropy(logit[taught], target[taught])


def region_overlap(regions: Tensor) -> Tensor:
    """Return how far region queries (P, k) are from orthogonal: mean squared cosine between different ones."""
    cosine = F.normalize(regions, dim=1) @ F.normalize(regions, dim=1).T
    return (cosine - torch.eye(len(cosine))).square().mean()
