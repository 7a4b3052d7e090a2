"""The two heads as torch modules: `Adapt` turns a support set into a class memory, `Match` a query into N(x).

Until the head is meta-trained its gates are zero, so that it *is* nearest centroid on centred features (SimpleShot).
Shapes: B crops, C classes, K shots a class, T tokens, P regions a class, R none vectors, M rows of the knowledge base.

References:
    Wang et al. 2019, "SimpleShot", https://arxiv.org/abs/1911.04623 (centring and normalising)
    Doersch et al. 2020, "CrossTransformers", https://arxiv.org/abs/2007.11498 (query-to-region attention)
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

MASKED = -1e4  # instead of -inf: an all-masked row must not become NaN, also not in half precision
EPS = 1e-6
N_NONE = 8  # R


@dataclass(frozen=True, kw_only=True)
class HeadStatistics:
    """What the head takes from base pictures; see `statistics.py`, which fits it.

    Attributes:
        projection: token -> key space, float32 (d_token, d_key).
        token_mean: float32 (d_token,).
        regions: queries that partition a picture's tokens, unit rows, float32 (P, d_key).
        temperature: multiplies the cosine between a query and a prototype.
        none_cosine: the cosine at which a class and *none* are equally likely.
        animal_mean, animal_weight, animal_bias: logistic regression on the square root of the pooled vector.
    """

    projection: Tensor
    token_mean: Tensor
    regions: Tensor
    temperature: float
    none_cosine: float
    animal_mean: Tensor
    animal_weight: Tensor
    animal_bias: float


class TokenProjection(nn.Module):
    """Tokens to unit vectors in key space."""

    def __init__(self, statistics: HeadStatistics) -> None:
        super().__init__()
        self.register_buffer("projection", statistics.projection)
        self.register_buffer("token_mean", statistics.token_mean)

    def forward(self, tokens: Tensor) -> Tensor:
        """Return tokens (..., T, d_token) as unit keys."""
        return unit((tokens - self.token_mean) @ self.projection)  # (..., T, d_key)


class Adapt(nn.Module):
    """Support set -> class memory; no training of the network."""

    def __init__(self, statistics: HeadStatistics) -> None:
        super().__init__()
        self.project = TokenProjection(statistics)
        self.register_buffer("regions", statistics.regions)
        self.temperature = statistics.temperature
        self.none_cosine = statistics.none_cosine
        self.gate_knowledge = nn.Parameter(torch.zeros(()))

    def forward(
        self, tok: Tensor, glob: Tensor, mask: Tensor, neg: Tensor, mkey: Tensor, mu: Tensor
    ) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
        """Return (Z, proto, W, b, none, shots) of a support set.

        Args:
            tok: tokens of the shots (C, K, T, d_token).
            glob: pooled vectors of the shots (C, K, d_pooled).
            mask: 1 for a shot, 0 for padding (C, K).
            neg: pooled vectors of the site's background (N, d_pooled); unused until the head is trained.
            mkey: keys of the knowledge base (M, d_key).
            mu: centring vector of the site (d_pooled,).
        """
        shots = mask.sum(dim=1)  # (C,)
        share = (mask / shots.clamp(min=1).unsqueeze(1)).unsqueeze(2)  # (C, K, 1)
        proto = unit((unit(glob - mu) * share).sum(dim=1))  # (C, d_pooled)
        regions = self.region_representations(tok, mask)
        regions = unit(regions + self.gate_knowledge * (torch.softmax(regions @ mkey.T, dim=2) @ mkey))
        weight = self.temperature * proto
        bias = torch.full_like(shots, -self.temperature * self.none_cosine)
        none = unit(self.regions) + 0 * neg.mean()
        return regions, proto, weight, bias, none, shots

    def region_representations(self, tok: Tensor, mask: Tensor) -> Tensor:
        """Partition a class's tokens softly into regions and return each region's mean, unit rows (C, P, d_key)."""
        keys = self.project(tok)  # (C, K, T, d_key)
        partition = torch.softmax(8.0 * keys @ self.regions.T, dim=3) * mask.unsqueeze(2).unsqueeze(3)  # (C, K, T, P)
        classes, shots, tokens, parts = partition.shape
        flat = partition.reshape(classes, shots * tokens, parts).transpose(1, 2)  # (C, P, K*T)
        values = keys.reshape(classes, shots * tokens, keys.shape[3])
        return unit(flat @ values / (flat.sum(dim=2, keepdim=True) + EPS))


class Match(nn.Module):
    """Queries and a class memory -> N(x), p_c, p(animal), similarity to M, heat map."""

    def __init__(self, statistics: HeadStatistics) -> None:
        super().__init__()
        self.project = TokenProjection(statistics)
        self.register_buffer("animal_mean", statistics.animal_mean)
        self.register_buffer("animal_weight", statistics.animal_weight)
        self.animal_bias = statistics.animal_bias
        self.temperature = statistics.temperature
        self.none_cosine = statistics.none_cosine
        self.gate_local = nn.Parameter(torch.zeros(()))
        self.gate_linear = nn.Parameter(torch.zeros(()))
        self.gate_none = nn.Parameter(torch.zeros(()))
        self.gate_shots = nn.Parameter(torch.zeros(()))

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
        mkey: Tensor,
        mu: Tensor,
    ) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
        """Return (weights, p_class, p_animal, similarity_m, heat).

        Args:
            tok: query tokens (B, T, d_token).
            glob: pooled query vectors (B, d_pooled).
            Z, proto, W, b, none, shots: the class memory that `Adapt` made.
            mkey: keys of the knowledge base (M, d_key).
            mu: centring vector of the site (d_pooled,).

        Returns:
            weights: N(x), rows sum to 1, the last column is *none* (B, C + 1).
            p_class: one independent probability a class (B, C).
            p_animal: probability that the crop shows an animal at all (B,).
            similarity_m: largest cosine to a row of M (B,).
            heat: where each class is seen, 0 to 1 (B, C, T).
        """
        query = unit(glob - mu)  # (B, d_pooled)
        keys = self.project(tok)  # (B, T, d_key)
        heat = self.region_similarity(keys, Z)  # (B, C, T)
        local = heat.mean(dim=2)  # (B, C)
        linear = query @ W.T + b + self.gate_shots * torch.log1p(shots)  # (B, C)
        logit = self.temperature * query @ proto.T + self.gate_local * local + self.gate_linear * linear
        none_local = (keys @ none.T).mean(dim=(1, 2))  # (B,)
        none_logit = (self.temperature * self.none_cosine + self.gate_none * none_local).unsqueeze(1)  # (B, 1)
        weights = torch.softmax(torch.cat([logit, none_logit], dim=1), dim=1)
        similarity = (unit(keys.mean(dim=1)) @ mkey.T).amax(dim=1)  # (B,)
        return weights, torch.sigmoid(logit - none_logit), self.p_animal(glob), similarity, heat

    def p_animal(self, glob: Tensor) -> Tensor:
        """Return the probability that a crop shows an animal, (B,); the root evens out the ReLU6 features."""
        root = torch.sqrt(glob.clamp(min=0) + EPS) - self.animal_mean
        return torch.sigmoid(root @ self.animal_weight + self.animal_bias)

    @staticmethod
    def region_similarity(keys: Tensor, regions: Tensor) -> Tensor:
        """Return how well the best region of each class explains each token, 0 to 1 (B, C, T)."""
        classes, parts, width = regions.shape
        cosine = keys @ regions.reshape(classes * parts, width).T  # (B, T, C*P)
        best = cosine.reshape(keys.shape[0], keys.shape[1], classes, parts).amax(dim=3)  # (B, T, C)
        return best.transpose(1, 2).clamp(min=0, max=1)


def unit(x: Tensor) -> Tensor:
    """Return x with its last dimension scaled to length 1; a zero vector stays zero."""
    return x / (x.square().sum(dim=-1, keepdim=True).sqrt() + EPS)
