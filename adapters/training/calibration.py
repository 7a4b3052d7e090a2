"""Make probabilities mean what they say: a scale and an offset of *none* by shots, fitted on tuning episodes.

References:
    Guo et al. 2017, https://arxiv.org/abs/1706.04599 (temperature scaling)
"""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812  # torch's own custom
from torch import Tensor

from adapters.evaluation.figures import expected_calibration_error
from adapters.training.attention import UNCALIBRATED, Head, calibrating
from adapters.training.bank import Bank
from adapters.training.meta_train import answer, validation_episodes

EPISODES = 400
SHOTS = (1, 2, 5, 10)


def calibrate(head: Head, tune: Bank, mu: Tensor, m_tokens: Tensor, seed: int) -> tuple[float, float]:
    """Fit `Match.calibration` in place and return the expected calibration error before and after."""
    episodes = validation_episodes(tune, EPISODES, seed + 1, len(m_tokens), SHOTS)
    with torch.no_grad():
        head.match.calibration.copy_(UNCALIBRATED)
        answers = [answer(head.eval(), episode, mu, m_tokens)[:2] for episode in episodes]
    logit = torch.cat([torch.cat(pair, dim=1) for pair in answers])  # (N, 6): five classes and none
    target = torch.cat([episode.target for episode in episodes])
    log_shots = torch.cat([episode.mask.sum(dim=1).mean().log1p().expand(len(episode.target)) for episode in episodes])
    fitted = fit(logit, log_shots, target)
    with torch.no_grad():
        head.match.calibration.copy_(fitted)
    return calibration_error(logit, target), calibration_error(calibrated(logit, log_shots, fitted), target)


def fit(logit: Tensor, log_shots: Tensor, target: Tensor) -> Tensor:
    """Return what `calibrating` takes (4,) that makes answers likeliest.

    Args:
        logit: of the classes and of *none*, which is last (N, C + 1).
        log_shots: log(1 + views that a class was learned from) in each answer's episode (N,).
        target: the right column of each (N,).
    """
    fitted = UNCALIBRATED.clone().requires_grad_()
    optimiser = torch.optim.LBFGS([fitted], max_iter=60)

    def loss() -> Tensor:
        optimiser.zero_grad()
        value = F.cross_entropy(calibrated(logit, log_shots, fitted), target)
        value.backward()  # type: ignore[no-untyped-call]  # torch leaves it untyped
        return value

    optimiser.step(loss)  # type: ignore[no-untyped-call]  # torch leaves it untyped
    return fitted.detach()


def calibrated(logit: Tensor, log_shots: Tensor, fitted: Tensor) -> Tensor:
    """Return logits (N, C + 1) as `Match` would scale and shift them."""
    none = torch.zeros(logit.shape[1])
    none[-1] = 1
    scale, offset = calibrating(fitted, log_shots.unsqueeze(1))
    return scale * logit + offset * none


def calibration_error(logit: Tensor, target: Tensor) -> float:
    """Return the expected calibration error of N(x): logits (N, C + 1), *none* last, and targets (N,)."""
    weights = torch.softmax(logit.detach(), dim=1)
    confidence, best = weights.max(dim=1)
    return expected_calibration_error(np.asarray(confidence), np.asarray(best == target))
