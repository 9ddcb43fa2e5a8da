"""The loadings as a signed heat map."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.image import AxesImage
from numpy.typing import NDArray

from probae.inference import Fit
from probae.models import LinearFactorModel
from probae.plots.canvas import LARGEST_LABEL, SMALLEST_LABEL, axes_or_new, name_rows, room
from probae.plots.subject import factor_name, fitted_loadings
from probae.priors.information import spread_of

NUMBER_SIZE = 8.0  # points; a letter is about .6 of its size wide
DARK = 0.5  # grey level, 0 black to 1 white, below which a cell needs light print
GREY_LEVEL = (0.299, 0.587, 0.114)  # of red, green and blue
NUMBERED_MAP = "RdBu_r"
# Lightness L* rises evenly (15, 37, 59, 78, 97) from blue over grey to yellow, so a grey copy keeps the sign.
RISING_MAP = LinearSegmentedColormap.from_list(
    "signed", ["#06235a", "#1b57a3", "#8e8e8e", "#f6b352", "#fff8d0"]
)


def loadings(fit: Fit, ax: Axes | None = None, *, standardized: bool = False) -> Axes:
    r"""Draw the loadings W (D, K) as a heat map, one row for each feature and one column for each factor.

    Cells with room carry their signed value. Cells without room take a map whose lightness rises from the
    most negative to the most positive value, so that the sign survives a grey copy either way. Rows or
    columns too many to label stand without labels.

    Parameters
    ----------
    fit : Fit
        Of a model with loadings.
    ax : Axes, optional
        Where to draw; a new figure by default.
    standardized : bool
        In place of loadings in units of x, draw the model's correlations of features with factors,
        :math:`w_{dk} s_k / \sqrt{\sum_j w_{dj}^2 s_j^2 + \psi_d}` with s the standard deviations of the
        factors (1 but for scaled laws).

    Returns
    -------
    Axes

    Raises
    ------
    ParameterError
        If the model has no loadings, or they are not finite.

    Examples
    --------
    >>> import probae as pa
    >>> run = pa.fit(pa.FactorAnalysis(9, 3), pa.datasets.holzinger_swineford().x)
    >>> ax = pa.plots.loadings(run, standardized=True)
    >>> ax.images[0].get_array().shape
    (9, 3)
    >>> [label.get_text() for label in ax.get_xticklabels()]
    ['z[0]', 'z[1]', 'z[2]']
    """
    values = fitted_loadings(fit)
    if standardized:
        values = correlations(fit.model)
    names = fit.names or tuple(str(d) for d in range(len(values)))
    ax = axes_or_new(ax, *_size(values.shape, max(map(len, names))))
    limit = 1.0 if standardized else float(np.abs(values).max()) or 1.0
    numbers = signed_numbers(values)
    numbered = _fit_in(ax, numbers)
    colours = NUMBERED_MAP if numbered else RISING_MAP
    image = ax.imshow(values, cmap=colours, vmin=-limit, vmax=limit, aspect="auto", interpolation="nearest")
    if numbered:
        _print_numbers(image, values, numbers)
    name_rows(ax, names, "feature" if fit.names is None else "", "features")
    _name_columns(ax, values.shape[1])
    ax.tick_params(length=0)
    ax.set_title("Standardized loadings" if standardized else "Loadings", fontsize="medium")
    bar = ax.figure.colorbar(image, ax=ax, aspect=30)
    bar.set_label("correlation" if standardized else "loading (units of x)", labelpad=8.0)
    return ax


def correlations(model: LinearFactorModel) -> NDArray[np.float64]:
    """Return the model's correlation of each feature with each factor, (D, K); 0 for a constant feature."""
    laws = model.prior.coordinates(model.latents)
    spread = np.ones(model.latents) if laws is None else np.array([spread_of(law) for law in laws])
    weights = model.loadings.detach().double().numpy(force=True) * spread
    noise = 0.0 if model.noise == "none" else model.noise_variance.detach().double().numpy(force=True)
    if model.noise == "complement":  # the part of each feature that is outside the span of the loadings
        noise = noise * (1 - np.square(np.linalg.qr(weights)[0]).sum(1))
    scale = np.sqrt(np.square(weights).sum(1) + noise)
    return weights / np.where(scale > 0, scale, 1.0)[:, None]


def signed_numbers(values: NDArray[np.float64]) -> NDArray[Any]:
    """Return each value in print with its sign, to about three digits of the largest.

    Examples
    --------
    >>> signed_numbers(np.array([[0.987, -0.001], [-0.25, 0.0]])).tolist()
    [['+0.99', '0.00'], ['−0.25', '0.00']]
    >>> signed_numbers(np.array([[1234.0, -56.0]])).tolist()
    [['+1234', '−56']]
    """
    largest = float(np.abs(values).max())
    order = math.floor(math.log10(largest)) if largest > 0 else 0
    if not -4 <= order <= 4:
        form = "+.0e"
    else:
        form = f"+.{max(0, 2 - order) if order >= 0 else 1 - order}f"
    printed = [format(value, form).replace("-", "−") for value in values.flat]
    unsigned = [number if number.strip("+−0.") else number.lstrip("+−") for number in printed]
    return np.array(unsigned).reshape(values.shape)


def _size(shape: tuple[int, ...], longest_name: int) -> tuple[float, float]:
    """Return width and height in inches of a new figure for a matrix with names of so many letters."""
    features, latents = shape
    width, height = 0.6 * latents + 0.08 * longest_name + 2.0, 0.3 * features + 1.0
    return float(np.clip(width, 3.6, 11.0)), float(np.clip(height, 2.4, 9.0))


def _fit_in(ax: Axes, numbers: NDArray[Any]) -> bool:
    """Whether every number fits in its cell."""
    width, height = room(ax)
    widest = max(len(number) for number in numbers.flat)
    rows, columns = numbers.shape
    cell_width, cell_height = (0.6 * widest + 0.8) * NUMBER_SIZE, 1.2 * NUMBER_SIZE
    return bool(width >= columns * cell_width and height >= rows * cell_height)


def _print_numbers(image: AxesImage, values: NDArray[np.float64], numbers: NDArray[Any]) -> None:
    dark = image.to_rgba(values)[..., :3] @ GREY_LEVEL < DARK
    for (row, column), number in np.ndenumerate(numbers):
        colour = "white" if dark[row, column] else "black"
        image.axes.text(column, row, number, ha="center", va="center", fontsize=NUMBER_SIZE, color=colour)


def _name_columns(ax: Axes, latents: int) -> None:
    """Name the factors where a label has room; else say how many there are."""
    names = [factor_name(k) for k in range(latents)]
    size = min(LARGEST_LABEL, room(ax)[0] / (0.6 * latents * len(names[-1])))
    if size >= SMALLEST_LABEL:
        ax.set_xticks(range(latents), names, fontsize=size)
    else:
        ax.set_xticks([])
        ax.set_xlabel(f"{latents} factors")
