"""Make probabilities mean what they say: one scale and one offset of *none*, fitted on tuning episodes.

References:
    Guo et al. 2017, https://arxiv.org/abs/1706.04599 (temperature scaling)
"""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812  # torch's own custom
from torch import Tensor

from adapters.evaluation.figures import expected_calibration_error
from adapters.training.attention import Head
from adapters.training.bank import Bank
from adapters.training.meta_train import answer, validation_episodes

EPISODES = 200


def calibrate(head: Head, tune: Bank, mu: Tensor, m_tokens: Tensor, seed: int) -> tuple[float, float]:
    """Fit `Match.calibration` in place and return the expected calibration error before and after."""
    episodes = validation_episodes(tune, EPISODES, seed + 1, len(m_tokens))
    with torch.no_grad():
        head.match.calibration.copy_(torch.tensor([1.0, 0.0]))
        answers = [answer(head.eval(), episode, mu, m_tokens)[:2] for episode in episodes]
    logit = torch.cat([torch.cat(pair, dim=1) for pair in answers])  # (N, 6): five classes and none
    target = torch.cat([episode.target for episode in episodes])
    fitted = torch.tensor([1.0, 0.0], requires_grad=True)
    optimiser = torch.optim.LBFGS([fitted], max_iter=60)

    def loss() -> Tensor:
        optimiser.zero_grad()
        value = F.cross_entropy(_calibrated(logit, fitted), target)
        value.backward()  # type: ignore[no-untyped-call]  # torch leaves it untyped
        return value

    before = calibration_error(logit, target)
    optimiser.step(loss)  # type: ignore[no-untyped-call]  # torch leaves it untyped
    with torch.no_grad():
        head.match.calibration.copy_(fitted)
        return before, calibration_error(_calibrated(logit, fitted), target)


def _calibrated(logit: Tensor, fitted: Tensor) -> Tensor:
    none = torch.zeros(logit.shape[1])
    none[-1] = 1
    return fitted[0] * logit + fitted[1] * none


def calibration_error(logit: Tensor, target: Tensor) -> float:
    """Return the expected calibration error of N(x): logits (N, C + 1), *none* last, and targets (N,)."""
    weights = torch.softmax(logit.detach(), dim=1)
    confidence, best = weights.max(dim=1)
    return expected_calibration_error(np.asarray(confidence), np.asarray(best == target))
