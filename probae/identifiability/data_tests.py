"""Provisional."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass

import torch
from scipy import stats

from probae.identifiability.structure import connected


def _hr(y):
    y = y.double()
    n, k = y.shape
    th = y.median(0).values
    V = torch.eye(k, dtype=torch.float64)
    for _ in range(200):
        L = torch.linalg.cholesky(V)
        e = torch.linalg.solve_triangular(L, (y - th).mT, upper=False).mT
        r = e.norm(dim=-1).clamp_min(1e-12)
        u = e / r[:, None]
        step = u.mean(0) / (1 / r).mean()
        S = k * (u.mT @ u) / n
        if float((S - torch.eye(k)).abs().max()) < 1e-8:
            break
        th = th + L @ step
        V = L @ S @ L.mT
        V = V * (k / V.trace())
    return u, r


@dataclass(frozen=True)
class NoiseCheck:
    p_value: float


@dataclass(frozen=True)
class RowDependence:
    p_value: float


@dataclass(frozen=True)
class Plane:
    plane: tuple
    p_value: float


@dataclass(frozen=True)
class RotationInformation:
    planes: tuple
    factors: int
    power: str = ""

    @property
    def smallest(self):
        return min(p.p_value for p in self.planes)

    @property
    def largest(self):
        return max(p.p_value for p in self.planes)

    def every_plane(self, a):
        return self.largest < a

    def some_plane(self, a):
        return self.smallest < a / len(self.planes)

    def blocks(self, a):
        order = sorted(self.planes, key=lambda p: p.p_value)
        rej = set()
        for i, p in enumerate(order):
            if p.p_value < a / (len(order) - i):
                rej.add(p.plane)
            else:
                break
        return connected(self.factors, {p.plane for p in self.planes if p.plane not in rej})

    def to_rows(self):
        return [{"plane": list(p.plane), "p": p.p_value} for p in self.planes]

    def lines(self):
        return ["planes: " + ", ".join(f"{p.plane} p={p.p_value:.2g}" for p in self.planes)]


def rotation_information(scores, covariance=None, seed=0):
    out = []
    for i, j in itertools.combinations(range(scores.shape[1]), 2):
        ps = []
        ys = [scores[:, [i, j]]]
        if covariance is not None:
            C = covariance[[i, j]][:, [i, j]]
            w, E = torch.linalg.eigh(C)
            if w[1] - w[0] > 0.2:
                g = torch.Generator().manual_seed(seed)
                ys.append(
                    ys[0]
                    + (torch.randn(len(scores), generator=g, dtype=torch.float64) * (w[1] - w[0]).sqrt())[
                        :, None
                    ]
                    * E[:, 0]
                )
        for y in ys:
            u, r = _hr(y)
            s = (r / r.median()) ** 4
            h = s / (39 + s)
            ph = torch.atan2(u[:, 1], u[:, 0])
            t = [
                float(2 * ((h * (l * ph).cos()).sum() ** 2 + (h * (l * ph).sin()).sum() ** 2) / (h * h).sum())
                for l in (3, 4)
            ]
            ps.append(min(1.0, 2 * math.exp(-max(t) / 2)))
        out.append(Plane((i, j), max(ps)))
    return RotationInformation(tuple(out), scores.shape[1])


def noise_check(x, loadings, noise):
    p, k = loadings.shape
    if p - k < 1:
        return None
    q, _ = torch.linalg.qr(loadings / noise.sqrt()[:, None], mode="complete")
    c = (x / noise.sqrt()) @ q[:, k:]
    n, d = c.shape
    c = c - c.mean(0)
    L = torch.linalg.cholesky(c.T @ c / n)
    c = torch.linalg.solve_triangular(L, c.T, upper=False).T
    if d <= 15:
        b1 = float((torch.einsum("ni,nj,nk->ijk", c, c, c) / n).square().sum())
        p1 = float(stats.chi2.sf(n * b1 / 6, d * (d + 1) * (d + 2) / 6))
    else:
        p1 = 1.0
    b2 = float(c.square().sum(1).square().mean())
    z = (b2 - d * (d + 2) * (n - 1) / (n + 1)) / math.sqrt(8 * d * (d + 2) / n)
    return NoiseCheck(min(1.0, 2 * min(p1, 2 * stats.norm.sf(abs(z)))))


def discrete_columns(x):
    return [i for i in range(x.shape[1]) if len(x) >= 50 and len(x[:, i].unique()) <= 10]


def row_dependence(s):
    n, k = s.shape
    r = s.argsort(0).argsort(0).double()
    r = (r - r.mean(0)) / r.std(0)
    L = min(10, n // 5)
    q = sum(((r[:-l] * r[l:]).mean(0)) ** 2 * n * (n + 2) / (n - l) for l in range(1, L + 1))
    return RowDependence(min(1.0, k * float(stats.chi2.sf(q.max(), L))))
