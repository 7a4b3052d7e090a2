"""The head as torch modules: `Adapt` turns a support set into a class memory, `Match` a query into N(x).

Every learned part enters through a gate that starts at zero, so that an untrained head *is* nearest centroid on centred
features (SimpleShot) and training can only leave that where it pays.

Shapes: B crops, C classes, K shots a class, T tokens, P regions a class, R none vectors, M rows of the knowledge base,
d width of a pooled vector, k width of a key.

References:
    Wang et al. 2019, "SimpleShot", https://arxiv.org/abs/1911.04623 (centring and normalising)
    Ye et al. 2020, "FEAT", https://arxiv.org/abs/1812.03664 (set-to-set attention)
    Doersch et al. 2020, "CrossTransformers", https://arxiv.org/abs/2007.11498 (query-to-region attention)
    Huang et al. 2022, "TANE", https://arxiv.org/abs/2211.15476 (a *none* made for the task)
    Bachlechner et al. 2020, "ReZero", https://arxiv.org/abs/2003.04887 (gates that start at zero)
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn

from adapters.knowledge import LARGEST
from adapters.training.descent import EPS, MetaGradientDescent

N_NONE = 8  # R
N_KEPT = 24  # tokens that hard attention keeps, of 49 (224 px) or 25 (160 px)
UNCALIBRATED = torch.tensor([1.0, 0.0, 0.0, 0.0])  # see `calibrating`
CALIBRATED = (math.log1p(3), math.log1p(30))  # from one frame to ten, in three views each: beyond, nothing was fitted
LEAST_SCALE = 0.1  # whatever was fitted, a larger logit stays the likelier class
D_HIDDEN = 256  # of the metric


class AnimalWeights(NamedTuple):
    """What `AnimalAtAll` is made of: mean (d,), hidden (d, h), hidden_bias (h,), out (h,) and bias ()."""

    mean: Tensor
    hidden: Tensor
    hidden_bias: Tensor
    out: Tensor
    bias: Tensor


@dataclass(frozen=True, kw_only=True)
class HeadStatistics:
    """What the head starts from, fitted on base pictures by `statistics.py`.

    Attributes:
        projection: token -> key space, float32 (d_token, k).
        token_mean: float32 (d_token,).
        regions: queries that partition a picture's tokens, unit rows, float32 (P, k).
        temperature: multiplies the cosine between a query and a prototype.
        none_cosine: the cosine at which a class and *none* are equally likely.
        animal: the network of p(animal).
    """

    projection: Tensor
    token_mean: Tensor
    regions: Tensor
    temperature: float
    none_cosine: float
    animal: AnimalWeights


class AnimalAtAll(nn.Module):
    """Pooled vectors -> the evidence that they show an animal; fitted by `animal_probe.py`, not by episodes."""

    def __init__(self, weights: AnimalWeights) -> None:
        super().__init__()
        for name, value in weights._asdict().items():
            self.register_buffer(name, value.clone())

    def forward(self, glob: Tensor) -> Tensor:
        """Return a logit (B,) of pooled vectors (B, d); the root evens out the ReLU6 features."""
        root = torch.sqrt(glob.clamp(min=0) + EPS) - self.mean
        return torch.relu(root @ self.hidden + self.hidden_bias) @ self.out + self.bias


class TokenProjection(nn.Module):
    """Tokens to unit vectors in key space; starts as a PCA."""

    def __init__(self, statistics: HeadStatistics) -> None:
        super().__init__()
        self.projection = nn.Parameter(statistics.projection.clone())
        self.token_mean = nn.Parameter(statistics.token_mean.clone())

    def forward(self, tokens: Tensor) -> Tensor:
        """Return tokens (..., d_token) as unit keys (..., k); what is no number has a key of zeros."""
        return finite(unit(tokens @ self.projection - self.token_mean @ self.projection))


class Metric(nn.Module):
    """Pooled vectors to unit vectors; a low-rank residual learns what cameras and seasons change in them."""

    def __init__(self, d_pooled: int) -> None:
        super().__init__()
        self.down = nn.Linear(d_pooled, D_HIDDEN)
        self.up = nn.Linear(D_HIDDEN, d_pooled)
        self.gate = nn.Parameter(torch.zeros(()))

    def forward(self, glob: Tensor, mu: Tensor) -> Tensor:
        """Return pooled vectors (..., d) as unit vectors around the centre mu (d,)."""
        centred = unit(glob - mu)
        return unit(centred + self.gate * self.up(torch.relu(self.down(centred))))


class Partition(nn.Module):
    """Soft partition of a class's tokens into P regions, and a representation Z of each."""

    def __init__(self, statistics: HeadStatistics) -> None:
        super().__init__()
        self.queries = nn.Parameter(statistics.regions.clone())
        self.sharpness = nn.Parameter(torch.tensor(8.0))

    def forward(self, keys: Tensor, mask: Tensor) -> Tensor:
        """Return unit regions (C, P, k) of keys (C, K, T, k); shots with mask 0 (C, K) are left out."""
        share = torch.softmax(self.sharpness * keys @ unit(self.queries).T, dim=3)  # (C, K, T, P)
        share = share * mask.unsqueeze(2).unsqueeze(3)
        classes, shots, tokens, parts = share.shape
        flat = share.reshape(classes, shots * tokens, parts).transpose(1, 2)  # (C, P, K*T)
        values = keys.reshape(classes, shots * tokens, keys.shape[3])
        return unit(flat @ values / (flat.sum(dim=2, keepdim=True) + EPS))


class Exchange(nn.Module):
    """Set-to-set attention: the regions of all classes look at each other and at the knowledge base."""

    def __init__(self, d_key: int) -> None:
        super().__init__()
        self.query = nn.Linear(d_key, d_key, bias=False)
        self.key = nn.Linear(d_key, d_key, bias=False)
        self.value = nn.Linear(d_key, d_key, bias=False)
        self.gate_set = nn.Parameter(torch.zeros(()))
        self.gate_knowledge = nn.Parameter(torch.zeros(()))
        for layer in (self.query, self.key, self.value):
            nn.init.eye_(layer.weight)

    def forward(self, regions: Tensor, mkey: Tensor) -> Tensor:
        """Return unit regions (C, P, k), moved towards what resembles them among themselves and in M (M, k)."""
        classes, parts, width = regions.shape
        flat = regions.reshape(classes * parts, width)
        asked = 8.0 * self.query(flat)  # keys are unit vectors: without a factor, attention would be flat
        among = torch.softmax(asked @ self.key(flat).T, dim=1) @ self.value(flat)
        known = torch.softmax(asked @ self.key(mkey).T, dim=1) @ self.value(mkey)
        return unit(flat + self.gate_set * among + self.gate_knowledge * known).reshape(classes, parts, width)


class Adapt(nn.Module):
    """Support set -> class memory; no training of the network."""

    def __init__(self, statistics: HeadStatistics, d_pooled: int, *, first_order: bool = False) -> None:
        super().__init__()
        d_key = statistics.projection.shape[1]
        self.project = TokenProjection(statistics)
        self.metric = Metric(d_pooled)
        self.partition = Partition(statistics)
        self.exchange = Exchange(d_key)
        self.descend = MetaGradientDescent(d_pooled, first_order=first_order)
        self.temperature = nn.Parameter(torch.tensor(statistics.temperature))
        self.none_cosine = nn.Parameter(torch.tensor(statistics.none_cosine))
        self.none_vectors = nn.Parameter(statistics.regions[:N_NONE].clone())
        self.none_of_task = nn.Sequential(nn.Linear(d_key, 64), nn.ReLU(), nn.Linear(64, N_NONE * d_key))
        self.gate_none = nn.Parameter(torch.zeros(()))

    def forward(
        self, tok: Tensor, glob: Tensor, mask: Tensor, neg: Tensor, mkey: Tensor, mu: Tensor
    ) -> tuple[Tensor, ...]:
        """Return (Z, proto, W, b, none, shots, key) of a support set.

        Args:
            tok: tokens of the shots (C, K, T, d_token).
            glob: pooled vectors of the shots (C, K, d).
            mask: 1 for a shot, 0 for padding (C, K).
            neg: pooled vectors of the site's background (N, d); a row of zeros is none.
            mkey: keys of the knowledge base (M, k).
            mu: centring vector of the site (d,).
        """
        there = mask.unsqueeze(2) > 0  # whatever stands in padding, it counts for nothing
        glob, tokens = (
            torch.where(there, finite(x), 0.0) for x in (glob, tok.mean(dim=2))
        )  # (C, K, d), (C, K, d_token)
        neg, mu = finite(neg), finite(mu)
        shots = mask.sum(dim=1)  # (C,)
        share = (mask / shots.clamp(min=1).unsqueeze(1)).unsqueeze(2)  # (C, K, 1)
        vectors = self.metric(glob, mu)  # (C, K, d)
        proto = unit((vectors * share).sum(dim=1))
        regions = self.exchange(self.partition(self.project(tok), mask), mkey)
        there = (neg.abs().sum(dim=1, keepdim=True) > 0).to(neg.dtype)
        bias = -self.temperature * self.none_cosine
        weight, bias = self.descend(vectors, mask, there * self.metric(neg, mu), proto, self.temperature, bias)
        offset = self.none_of_task(regions.mean(dim=(0, 1))).reshape(N_NONE, regions.shape[2])
        none = unit(self.none_vectors + self.gate_none * offset)
        key = self.project((tokens * share).sum(dim=1))  # (C, k): its row of the knowledge base
        return regions, proto, weight, bias, none, shots, key


class Match(nn.Module):
    """Queries and a class memory -> N(x), p_c, p(animal), similarity to M, heat map."""

    def __init__(self, statistics: HeadStatistics, adapt: Adapt) -> None:
        """Build it beside the `Adapt` whose token projection, metric and temperature it shares."""
        super().__init__()
        d_key = statistics.projection.shape[1]
        self.project, self.metric = adapt.project, adapt.metric
        self.temperature, self.none_cosine = adapt.temperature, adapt.none_cosine
        self.animal = AnimalAtAll(statistics.animal)
        self.saliency = nn.Sequential(nn.Linear(d_key + 2, 32), nn.ReLU(), nn.Linear(32, 1))
        self.sharpness = nn.Parameter(torch.tensor(8.0))
        self.of_shots = nn.Sequential(nn.Linear(1, 16), nn.ReLU(), nn.Linear(16, 3))
        self.of_none = nn.Sequential(nn.Linear(6, 32), nn.ReLU(), nn.Linear(32, 1))
        self.gate_local = nn.Parameter(torch.zeros(()))
        self.gate_linear = nn.Parameter(torch.zeros(()))
        self.calibration = nn.Parameter(UNCALIBRATED.clone())  # fitted after training
        self.hard = True  # an ablation turns hard attention off
        for last in (self.of_shots[2], self.of_none[2]):
            nn.init.zeros_(last.weight)
            nn.init.zeros_(last.bias)

    def forward(
        self,
        tok: Tensor,
        glob: Tensor,
        Z: Tensor,
        proto: Tensor,
        W: Tensor,
        b: Tensor,
        none: Tensor,
        shots: Tensor,
        key: Tensor,
        mkey: Tensor,
        mu: Tensor,
    ) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
        """Return (weights, p_class, p_animal, similarity_m, heat).

        Args:
            tok: query tokens (B, T, d_token).
            glob: pooled query vectors (B, d).
            Z, proto, W, b, none, shots, key: the class memory that `Adapt` made.
            mkey: keys of the knowledge base (M, k).
            mu: centring vector of the site (d,).

        Returns:
            weights: N(x), rows sum to 1, the last column is *none* (B, C + 1).
            p_class: one independent probability a class (B, C).
            p_animal: probability that the crop shows an animal at all (B,).
            similarity_m: largest cosine to a row of M, the taught classes' rows among them (B,).
            heat: where each class is seen, 0 to 1 (B, C, T).
        """
        glob = finite(glob)
        logit, none_logit, similarity, heat = self.logits(tok, glob, (Z, proto, W, b, none, shots, key), mkey, mu)
        weights = torch.softmax(torch.cat([logit, none_logit], dim=1), dim=1)
        p_animal = torch.sigmoid(self.animal(glob))
        return weights, torch.sigmoid(logit - none_logit), p_animal, similarity, heat.clamp(min=0, max=1)

    def logits(
        self, tok: Tensor, glob: Tensor, memory: tuple[Tensor, ...], mkey: Tensor, mu: Tensor
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Return logits of the classes (B, C) and of *none* (B, 1), similarity to M (B,), and heat (B, C, T)."""
        Z, proto, W, b, none, shots, key = memory
        vectors, keys = self.metric(glob, mu), self.project(tok)  # (B, d), (B, T, k)
        heat, best_region = self.attend(keys, Z)  # (B, C, T), (B, T)
        none_cosine = (keys @ none.T).amax(dim=2)  # (B, T)
        kept = self.keep(keys, best_region, none_cosine)  # (B, T)
        local = (heat * kept.unsqueeze(1)).sum(dim=2) / kept.sum(dim=1, keepdim=True)  # (B, C)
        cosine = vectors @ proto.T  # (B, C)
        scale = torch.exp(self.of_shots(torch.log1p(shots).unsqueeze(1)))  # (C, 3)
        logit = (
            self.temperature * cosine * scale[:, 0]
            + self.gate_local * local * scale[:, 1]
            + self.gate_linear * (vectors @ W.T + b) * scale[:, 2]
        )
        mean_key = unit(keys.mean(dim=1))  # (B, k)
        to_base, to_taught = (mean_key @ mkey.T).amax(dim=1), (mean_key @ key.T).amax(dim=1)  # (B,)
        none_local = (none_cosine * kept).sum(dim=1) / kept.sum(dim=1)  # (B,)
        seen = [
            logit.amax(dim=1) / 10,  # tens of units: brought to the size of the others
            torch.logsumexp(logit, dim=1) / 10,
            none_local,
            to_base,
            local.amax(dim=1),
            cosine.amax(dim=1),
        ]
        none_logit = self.temperature * self.none_cosine + self.of_none(torch.stack(seen, dim=1))  # (B, 1)
        taught = shots.clamp(max=1).sum()  # a padded class has no shots
        scale, offset = calibrating(self.calibration, torch.log1p(shots.sum() / taught.clamp(min=1)))
        return scale * logit, scale * none_logit + offset, torch.maximum(to_base, to_taught), heat

    def attend(self, keys: Tensor, regions: Tensor) -> tuple[Tensor, Tensor]:
        """Soft attention: each token attends to a class's regions and is compared with what it finds.

        Args:
            keys: unit keys of the tokens (B, T, k).
            regions: unit regions of the classes (C, P, k).

        Returns:
            cosine of each token to its class-aligned vector (B, C, T), and to the best region of all (B, T).
        """
        classes, parts, width = regions.shape
        batch, tokens, _ = keys.shape
        cosine = keys.reshape(batch * tokens, width) @ regions.reshape(classes * parts, width).T
        cosine = cosine.reshape(batch * tokens, classes, parts).transpose(0, 1)  # (C, B * T, P)
        # the attention's share of a region but for a divisor, which the cosine of what is found does not depend on
        share = torch.exp(self.sharpness * cosine)
        gram = regions @ regions.transpose(1, 2)  # (C, P, P): the aligned vector's length without forming it
        length = ((share @ gram) * share).sum(dim=2).clamp(min=EPS).sqrt()  # (C, B * T)
        aligned = (share * cosine).sum(dim=2) / length
        best = cosine.amax(dim=(0, 2)).reshape(batch, tokens)
        return aligned.reshape(classes, batch, tokens).transpose(0, 1), best

    def keep(self, keys: Tensor, best_region: Tensor, none_cosine: Tensor) -> Tensor:
        """Hard attention: 1 for the `N_KEPT` most salient tokens, else 0 (B, T); straight-through for the gradient."""
        if not self.hard:
            return torch.ones_like(best_region)
        seen = torch.cat([keys, best_region.unsqueeze(2), none_cosine.unsqueeze(2)], dim=2)
        salient = self.saliency(seen).squeeze(2)  # (B, T)
        least = torch.topk(salient, N_KEPT, dim=1).values[:, -1:]
        hard = (salient >= least).to(salient.dtype)
        if not self.training:
            return hard
        soft = torch.sigmoid(salient)
        return hard + soft - soft.detach()


class Head(nn.Module):
    """Both halves, with the parts that they share held once."""

    def __init__(self, statistics: HeadStatistics, d_pooled: int = 1280, *, first_order: bool = False) -> None:
        super().__init__()
        self.adapt = Adapt(statistics, d_pooled, first_order=first_order)
        self.match = Match(statistics, self.adapt)


def calibrating(calibration: Tensor, log_shots: Tensor) -> tuple[Tensor, Tensor]:
    """Return the scale of all logits and the offset of *none*: more shots deserve more confidence.

    Args:
        calibration: scale, its slope over the shots, offset, its slope (4,).
        log_shots: log(1 + views that a class was learned from), of any shape.
    """
    log_shots = log_shots.clamp(*CALIBRATED)
    scale = (calibration[0] + calibration[1] * log_shots).clamp(min=LEAST_SCALE)
    return scale, calibration[2] + calibration[3] * log_shots


def finite(x: Tensor) -> Tensor:
    """Return x with 0 for what is no number, or too large to be any feature: its square would leave float32."""
    return torch.where(x.abs() <= LARGEST, x, 0.0)


def unit(x: Tensor) -> Tensor:
    """Return x with its last dimension scaled to length 1; a zero vector stays zero."""
    return x / (x.square().sum(dim=-1, keepdim=True).sqrt() + EPS)
