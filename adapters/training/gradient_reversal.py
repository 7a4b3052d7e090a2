"""A domain critic behind a Gradient Reversal Layer: features that do not tell the camera's trouble.

Reference:
    Ganin and Lempitsky 2015, https://arxiv.org/abs/1409.7495 (schedule of the strength: section 3)
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from adapters.training.domains import DOMAINS


class ReverseGradient(torch.autograd.Function):
    """Identity forward, gradient times -strength backward."""

    @staticmethod
    def forward(ctx: torch.autograd.function.FunctionCtx, x: Tensor, strength: float) -> Tensor:
        """Return x."""
        ctx.strength = strength  # type: ignore[attr-defined]  # torch keeps what forward leaves for backward there
        return x.view_as(x)

    @staticmethod
    def backward(ctx: torch.autograd.function.FunctionCtx, *gradients: Tensor) -> tuple[Tensor, None]:
        """Return the reversed gradient, and none for the strength."""
        return -ctx.strength * gradients[0], None  # type: ignore[attr-defined]


class DomainCritic(nn.Module):
    """Tells from features which camera trouble a picture had; what feeds it learns to leave it nothing to tell."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(width, 96), nn.ReLU(), nn.Linear(96, len(DOMAINS)))

    def forward(self, features: Tensor, strength: float) -> Tensor:
        """Return logits (B, n_domain) of features (B, width)."""
        logits: Tensor = self.layers(ReverseGradient.apply(features, strength))
        return logits


def strength_at(progress: float) -> float:
    """Return the strength of the reversal at a progress of 0 to 1."""
    return 2 / (1 + float(np.exp(-10 * progress))) - 1
