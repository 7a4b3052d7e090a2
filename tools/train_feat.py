"""Train FEAT, a baseline of `wildlane evaluate`, on the same features as our head, and export it.

    python tools/train_feat.py --run runs/first

Reads the feature banks of a finished `wildlane model train`; writes feat.onnx and its manifest to adapters/evaluation.
FEAT (Ye et al. 2020, https://arxiv.org/abs/1812.03664) is easyfsl's attention module; loop, classes and views are ours.
About two minutes on two cores.
"""

from __future__ import annotations

import argparse
import copy
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812  # torch's own custom
from easyfsl.modules import MultiHeadAttention
from numpy.random import Generator
from torch import Tensor, nn
from torch.export import Dim

from adapters.runtime import file_hash, write_manifest
from adapters.training.attention import unit
from adapters.training.bank import CLEAN_VIEWS, N_VIEWS, Bank
from adapters.training.export import export_graph
from adapters.training.optimisation import one_cycle
from adapters.training.train import bank_of

FEAT_FOLDER, FEAT = Path(__file__).parents[1] / "adapters/evaluation/feat", "feat.onnx"
SEED, STEPS, PEAK_RATE, WAYS, QUERIES = 20261123, 3000, 2e-4, 5, 15
D_ATTENTION = 128


class Feat(nn.Module):
    """Class means, adapted by attention among themselves; queries by their squared distance to them."""

    def __init__(self, d: int) -> None:
        super().__init__()
        self.attention = MultiHeadAttention(1, d, D_ATTENTION, D_ATTENTION, dropout=0.5)
        self.sharpness = nn.Parameter(torch.tensor(0.1))

    def forward(self, means: Tensor, queries: Tensor) -> Tensor:
        """Return scores (B, C) of queries (B, d) for class means (C, d), both of centred unit vectors."""
        means = means.unsqueeze(0)
        adapted = self.attention(means, means, means)[0][0]  # (C, d)
        distance = queries.square().sum(1, keepdim=True) - 2 * queries @ adapted.T + adapted.square().sum(1)
        return -self.sharpness * distance


def episode(bank: Bank, mu: Tensor, rng: Generator) -> tuple[Tensor, Tensor, Tensor]:
    shots = int(rng.choice((1, 5)))
    rows = [rng.permutation(bank.members[c])[: shots + QUERIES] for c in rng.choice(bank.taught, WAYS, replace=False)]
    support = torch.from_numpy(bank.glob[np.stack([r[:shots] for r in rows]), 0])
    asked = np.concatenate([r[shots:] for r in rows])
    queries = torch.from_numpy(bank.glob[asked, rng.integers(0, N_VIEWS, len(asked))])
    labels = torch.from_numpy(np.repeat(np.arange(WAYS), [len(r) - shots for r in rows]))
    return unit(support - mu).mean(dim=1), unit(queries - mu), labels


@torch.no_grad()
def accuracy(feat: Feat, bank: Bank, mu: Tensor) -> float:
    rng, feat = np.random.default_rng((SEED, 1)), feat.eval()
    tasks = [episode(bank, mu, rng) for _ in range(300)]
    return 100 * float(np.mean([(feat(m, q).argmax(dim=1) == y).float().mean() for m, q, y in tasks]))


def main() -> None:
    parser = argparse.ArgumentParser(description="Train FEAT on the feature banks of a finished training.")
    parser.add_argument("--run", type=Path, required=True, help="folder of `wildlane model train`")
    run = parser.parse_args().run
    banks = {role: Bank.load(bank_of(run, role)) for role in ("train", "tune")}
    with np.load(run / "statistics.npz") as stored:
        mu = torch.from_numpy(stored["mu"])
    torch.manual_seed(SEED)
    feat = Feat(len(mu))
    optimiser = torch.optim.AdamW(feat.parameters(), lr=PEAK_RATE, weight_decay=5e-4)
    best, best_right = copy.deepcopy(feat), accuracy(feat, banks["tune"], mu)
    for step in range(STEPS):
        if step % 250 == 0 and (right := accuracy(feat, banks["tune"], mu)) > best_right:
            best, best_right = copy.deepcopy(feat), right
            print(f"step {step}/{STEPS}: {right:.2f} % on tuning classes", flush=True)
        for group in optimiser.param_groups:
            group["lr"] = PEAK_RATE * one_cycle(step / STEPS, 0.05)
        means, queries, labels = episode(banks["train"], mu, np.random.default_rng((SEED, step)))
        loss = F.cross_entropy(feat.train()(means, queries), labels)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    FEAT_FOLDER.mkdir(exist_ok=True)
    axes = [{0: Dim("classes")}, {0: Dim("batch")}]
    sizes = ((5, 7), (1, 1), (20, 30))
    examples = [(unit(torch.randn(c, len(mu))), unit(torch.randn(b, len(mu)))) for c, b in sizes]
    facts = {
        "graph": "feat",
        "encoder": file_hash(run / "models", "encode.onnx"),
        "views": f"{CLEAN_VIEWS} of {N_VIEWS}",
    }
    print(export_graph(best.eval(), FEAT_FOLDER / FEAT, examples, ["means", "queries"], ["scores"], axes, facts))
    write_manifest(FEAT_FOLDER, [FEAT])


if __name__ == "__main__":
    main()
