"""Probabilities that mean what they say, however many shots a class was learned from."""

from __future__ import annotations

import torch

from adapters.training.calibration import calibrated, calibration_error, fit


def test_confidence_is_put_right_for_few_shots_and_for_many() -> None:
    draw = torch.Generator().manual_seed(1)
    true_logit = 3 * torch.randn(8000, 6, generator=draw)
    target = torch.multinomial(torch.softmax(true_logit, dim=1), 1, generator=draw).squeeze(1)
    few = torch.arange(8000) % 2 == 0
    log_shots = torch.where(few, 1.4, 2.8)
    too_sure_too_shy = torch.where(few.unsqueeze(1), 2 * true_logit, 0.5 * true_logit)

    fitted = fit(too_sure_too_shy, log_shots, target)

    put_right = calibrated(too_sure_too_shy, log_shots, fitted)
    for group in (few, ~few):
        assert calibration_error(too_sure_too_shy[group], target[group]) > 0.05
        assert calibration_error(put_right[group], target[group]) < 0.02
