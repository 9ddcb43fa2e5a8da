"""Images that come with scikit-learn: patches of two photographs, and handwritten digits."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from probae.checks import ParameterError, check_count
from probae.datasets.base import Dataset


def natural_patches(
    size: int = 8,
    count: int = 20_000,
    seed: int = 0,
    *,
    remove_dc: bool = True,
    equalize_contrast: bool = False,
    drop_flat: float = 0.1,
    whiten: int | None = None,
) -> Dataset:
    """Cut square patches at random places from the photographs china.jpg and flower.jpg.

    Each photograph becomes log(1 + grey), grey being the mean of the three channels in [0, 1]. Places are
    drawn with replacement, so patches overlap. With the mean of each patch removed, x has rank size^2 - 1:
    a model with a noise term fits as it is, a noise-free one needs `whiten`. Two photographs are a
    demonstration, not a sample of natural scenes.

    Parameters
    ----------
    size : side of a patch in pixels, 2 to 427
    count : patches returned, N
    seed : of the places
    remove_dc : subtract from each patch its mean
    equalize_contrast : divide the deviations of each patch from its mean by their standard deviation
    drop_flat : share of the drawn patches that is left out, those with the smallest standard deviation;
        at least 0 and below 1
    whiten : project on this many leading principal components, scaled to variance 1 (divisor N); `extra`
        then holds `whitening` (D, k) and `centre` (D,) with x = (patch - centre) @ whitening, and
        `explained`, the share of the variance kept

    Returns
    -------
    Dataset
        x of shape (count, size^2) named "r0c0" by row and column of the pixel, or (count, whiten) named
        "pc0", ...

    Raises
    ------
    ParameterError
        If a setting is out of its range, or `whiten` exceeds the rank of the patches.

    References
    ----------
    Olshausen, B. A. & Field, D. J. (1996). Emergence of simple-cell receptive field properties by learning
    a sparse code for natural images. Nature 381, 607-609.

    Examples
    --------
    >>> natural_patches(size=8, count=1000).x.shape
    torch.Size([1000, 64])
    >>> natural_patches(size=8, count=1000, whiten=40).x.var(0, correction=0).round(decimals=6).unique()
    tensor([1.], dtype=torch.float64)
    """
    check_count("count", count)
    check_count("seed", seed, 0)
    if not 0 <= drop_flat < 1:
        raise ParameterError(f"drop_flat should be a share from 0 to below 1, got {drop_flat}.")
    random = np.random.default_rng(seed)
    patches = _cut(_photographs(), check_count("size", size, 2), math.ceil(count / (1 - drop_flat)), random)
    spread = patches.std(1)
    spread[np.ptp(patches, axis=1) == 0] = 0.0  # a constant patch leaves rounding, which is no contrast
    kept = np.sort(np.argsort(-spread, kind="stable")[:count])
    patches, spread = patches[kept], spread[kept]
    if remove_dc or equalize_contrast:
        level = patches.mean(1, keepdims=True)
        contrast = np.where(spread > 0, spread, 1.0)[:, None] if equalize_contrast else 1.0
        patches = (patches - level) / contrast + (0.0 if remove_dc else level)
    names = tuple(f"r{row}c{column}" for row in range(size) for column in range(size))
    source = f"{size} x {size} patches of china.jpg and flower.jpg, as shipped with scikit-learn"
    if whiten is None:
        return Dataset(torch.from_numpy(patches), names, source)
    x, maps = _whiten(patches, check_count("whiten", whiten))
    return Dataset(x, tuple(f"pc{i}" for i in range(whiten)), f"{source}, whitened", extra=maps)


def digits() -> Dataset:
    """Load handwritten digits, 1797 images of 8 x 8 pixels scaled to [0, 1], with their classes as labels.

    The test part of [1]_, as scikit-learn ships it. Three pixels are 0 in every image.

    References
    ----------
    .. [1] Alpaydin, E. & Kaynak, C. (1998). Optical recognition of handwritten digits. UCI Machine Learning
       Repository.

    Examples
    --------
    >>> data = digits()
    >>> data.x.shape, data.x.min().item(), data.x.max().item(), data.labels[:3]
    (torch.Size([1797, 64]), 0.0, 1.0, tensor([0, 1, 2]))
    """
    from sklearn.datasets import load_digits

    raw = load_digits()
    return Dataset(
        x=torch.from_numpy(raw.data / 16.0),
        feature_names=tuple(f"r{row}c{column}" for row in range(8) for column in range(8)),
        source="Alpaydin, E. & Kaynak, C. (1998). Optical recognition of handwritten digits. "
        "UCI Machine Learning Repository; test part, as shipped with scikit-learn.",
        labels=torch.from_numpy(raw.target.astype(np.int64)),
    )


def _photographs() -> list[NDArray[np.float64]]:
    from sklearn.datasets import load_sample_image

    return [np.log1p(load_sample_image(name).mean(2) / 255.0) for name in ("china.jpg", "flower.jpg")]


def _cut(
    images: list[NDArray[np.float64]], size: int, count: int, random: np.random.Generator
) -> NDArray[np.float64]:
    smallest = min(min(image.shape) for image in images)
    if size > smallest:
        raise ParameterError(f"size should be at most {smallest}, the height of the photographs, got {size}.")
    which = random.integers(len(images), size=count)
    patches = np.empty((count, size * size))
    for index, image in enumerate(images):
        windows = np.lib.stride_tricks.sliding_window_view(image, (size, size))
        rows = random.integers(windows.shape[0], size=count)
        columns = random.integers(windows.shape[1], size=count)
        chosen = which == index
        patches[chosen] = windows[rows[chosen], columns[chosen]].reshape(-1, size * size)
    return patches


def _whiten(patches: NDArray[np.float64], k: int) -> tuple[torch.Tensor, dict[str, Any]]:
    centre = patches.mean(0)
    values, vectors = np.linalg.eigh((patches - centre).T @ (patches - centre) / len(patches))
    values, vectors = values[::-1], vectors[:, ::-1]
    rank = int((values > 1e-10 * values[0]).sum())
    if k > rank:
        raise ParameterError(f"whiten should be at most {rank}, the rank of the patches, got {k}.")
    whitening = vectors[:, :k] / np.sqrt(values[:k])
    maps = {
        "whitening": torch.from_numpy(whitening),
        "centre": torch.from_numpy(centre),
        "explained": float(values[:k].sum() / values.sum()),
    }
    return torch.from_numpy((patches - centre) @ whitening), maps
