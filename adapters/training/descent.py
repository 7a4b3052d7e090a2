"""Meta-Gradient Descent: a linear classifier of the support set, fitted inside the graph.

References:
    Li et al. 2017, "Meta-SGD", https://arxiv.org/abs/1707.09835 (learned step sizes)
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

EPS = 1e-6
N_STEPS = 5
STILL = 1e-8  # squared gradient below which a class takes no further step


class MetaGradientDescent(nn.Module):
    """Unrolled descent on the per-class cross-entropy of the support set, from the prototypes.

    The gradient is an expression, so that it exports, and second-order outer gradients come with it. Step sizes are
    learned, one a step, and one factor a dimension (Meta-SGD); the norm of each row stays below a learned bound; a
    class whose gradient has vanished stands still.
    """

    def __init__(self, d_pooled: int, *, first_order: bool = False) -> None:
        super().__init__()
        self.step_sizes = nn.Parameter(torch.full((N_STEPS,), 0.5))
        self.dimension_factors = nn.Parameter(torch.ones(d_pooled))
        self.decay = nn.Parameter(torch.tensor(0.02))
        self.norm_bound = nn.Parameter(torch.tensor(2.0))
        self.first_order = first_order

    def forward(
        self, vectors: Tensor, mask: Tensor, negatives: Tensor, proto: Tensor, temperature: Tensor, bias: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Return weights (C, d) and biases (C,), in units of the logit.

        Args:
            vectors: unit vectors of the shots (C, K, d).
            mask: 1 for a shot, 0 for padding (C, K).
            negatives: unit vectors of the site's background (N, d); rows of zeros are none.
            proto: where the descent starts (C, d).
            temperature: logit of a cosine of 1.
            bias: logit at a cosine of 0.
        """
        classes, shots, width = vectors.shape
        x = torch.cat([vectors.reshape(classes * shots, width), negatives])  # (S, d)
        present = torch.cat([mask.reshape(-1), (negatives.abs().sum(dim=1) > 0).to(mask.dtype)])  # (S,)
        number = torch.arange(classes)
        own = (number.unsqueeze(1) == number).to(x.dtype).unsqueeze(1).expand(-1, shots, -1)  # (C, K, C)
        own = own.reshape(classes * shots, classes)
        target = torch.cat([own, torch.zeros_like(negatives[:, :1]).expand(-1, classes)])  # (S, C)
        balance = self._balance(target, present.unsqueeze(1))
        w, b = proto, bias.expand(classes)
        for step in range(N_STEPS):
            error = (torch.sigmoid(temperature * x @ w.T + b) - target) * balance  # (S, C)
            gradient = error.T @ x + self.decay * w  # (C, d)
            shift = error.sum(dim=0)  # (C,)
            if self.first_order:
                gradient, shift = gradient.detach(), shift.detach()
            moving = (gradient.square().sum(dim=1, keepdim=True) > STILL).to(w.dtype)
            w = w - moving * self.step_sizes[step] * self.dimension_factors * gradient
            b = b - moving.squeeze(1) * self.step_sizes[step] * shift
            norm = w.square().sum(dim=1, keepdim=True).sqrt() + EPS
            w = w * torch.clamp(self.norm_bound / norm, max=1.0)
        return temperature * w, b

    @staticmethod
    def _balance(target: Tensor, present: Tensor) -> Tensor:
        """Return weights (S, C) that give a class's own shots and all else half the loss each."""
        positive, negative = target * present, (1 - target) * present
        return 0.5 * positive / positive.sum(dim=0).clamp(min=1) + 0.5 * negative / negative.sum(dim=0).clamp(min=1)
