"""Figures of merit: accuracy with its interval, paired differences, AUROC, calibration error."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata

N_BINS = 15


def mean_and_ci95(values: NDArray[np.float64]) -> tuple[float, float]:
    """Return the mean and the half width of its normal 95 % interval; the half width of one value is 0."""
    if len(values) < 2:
        return float(values.mean()), 0.0
    return float(values.mean()), float(1.96 * values.std(ddof=1) / np.sqrt(len(values)))


def auroc(inside: NDArray[np.float32], outside: NDArray[np.float32]) -> float:
    """Return the probability that a random known query scores higher than a random unknown one; ties count half."""
    ranks = rankdata(np.concatenate([inside, outside]))
    above = ranks[: len(inside)].sum() - len(inside) * (len(inside) + 1) / 2
    return float(above / (len(inside) * len(outside)))


def expected_calibration_error(confidence: NDArray[np.float32], correct: NDArray[np.bool_]) -> float:
    """Return the mean gap between confidence and accuracy over 15 equal bins, weighted by their queries.

    Reference:
        Guo et al. 2017, https://arxiv.org/abs/1706.04599
    """
    bins = np.minimum((confidence * N_BINS).astype(int), N_BINS - 1)
    gaps = [abs(confidence[bins == b].mean() - correct[bins == b].mean()) * (bins == b).sum() for b in np.unique(bins)]
    return float(np.sum(gaps) / len(confidence))
