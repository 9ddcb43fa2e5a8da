"""Posterior-mean scores of two factors."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from matplotlib import colormaps
from matplotlib.axes import Axes
from numpy.typing import NDArray

from probae.checks import DataError
from probae.inference import Fit
from probae.plots.canvas import axes_or_new
from probae.plots.subject import check_plane, factor_name

MOST_CLASSES = 10
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "<", ">", "*")
VECTOR_LIMIT = 20_000  # points beyond which a PDF holds them as one picture


def scores(
    fit: Fit, x: Any, plane: tuple[int, int] = (0, 1), ax: Axes | None = None, *, labels: Any = None
) -> Axes:
    """Scatter the posterior means of two factors, one point for each row, on equal axes through zero.

    Parameters
    ----------
    fit : Fit
    x : array, DataFrame or Tensor (N, D)
        Rows to score.
    plane : (int, int)
        The two factors, horizontal first.
    ax : Axes, optional
        Where to draw; a new figure by default.
    labels : sequence (N,), optional
        A class or a number for each row. Up to ten different values get a colour and a marker each (labels
        of one letter or digit are their own marker); more values, if numbers, get a colour scale.

    Returns
    -------
    Axes

    Raises
    ------
    ParameterError
        If ``plane`` is not two different factors of the model.
    DataError
        If ``labels`` does not have a value for each row, or has more than ten values that are not numbers;
        and for rows the model cannot take.

    Examples
    --------
    >>> import probae as pa
    >>> data = pa.datasets.holzinger_swineford()
    >>> run = pa.fit(pa.FactorAnalysis(9, 3), data.x)
    >>> ax = pa.plots.scores(run, data.x, plane=(0, 2), labels=data.extra["school"])
    >>> ax.get_ylabel(), [text.get_text() for text in ax.get_legend().get_texts()]
    ('z[2] (posterior mean)', ['Grant-White', 'Pasteur'])
    """
    first, second = check_plane(plane, fit.model.latents)
    with torch.no_grad():
        mean = fit.posterior(x).mean
    points = mean[:, [first, second]].double().numpy(force=True)
    values = None if labels is None else _check_labels(labels, len(points))
    ax = axes_or_new(ax, 5.0 if labels is None else 5.9, 4.6)
    ax.axhline(0.0, color="0.7", linewidth=0.8, zorder=0)
    ax.axvline(0.0, color="0.7", linewidth=0.8, zorder=0)
    if values is not None and len(classes := np.unique(values)) <= MOST_CLASSES:
        _scatter_classes(ax, points, values, classes)
    else:
        _scatter_cloud(ax, points, values)
    ax.set_aspect("equal", adjustable="datalim")
    ax.set_xlabel(f"{factor_name(first)} (posterior mean)")
    ax.set_ylabel(f"{factor_name(second)} (posterior mean)")
    return ax


def opacity(count: int) -> float:
    """Return the opacity of each of ``count`` points, between .05 and .8: less ink the more there are.

    Examples
    --------
    >>> opacity(100), opacity(10_000), opacity(10**8)
    (0.8, 0.25, 0.05)
    """
    return float(np.clip(25.0 / np.sqrt(count), 0.05, 0.8))


def _scatter_classes(ax: Axes, points: NDArray[Any], values: NDArray[Any], classes: NDArray[Any]) -> None:
    """Scatter each class in its own colour and marker, with a legend beside the plot."""
    colours = colormaps["tab10"]
    for index, name in enumerate(classes.astype(str)):
        chosen = values.astype(str) == name
        letter = len(name) == 1 and name.isalnum()
        ax.scatter(
            points[chosen, 0],
            points[chosen, 1],
            s=32.0 if letter else 18.0,
            marker=f"$\\mathbf{{{name}}}$" if letter else MARKERS[index],
            color=colours(index),
            alpha=opacity(len(points)),
            linewidths=0.0,
            rasterized=len(points) > VECTOR_LIMIT,
            label=name,
        )
    legend = ax.legend(loc="upper left", bbox_to_anchor=(1.01, 1.0), borderaxespad=0.0, frameon=False)
    for handle in legend.legend_handles:
        if handle is not None:
            handle.set_alpha(1.0)


def _scatter_cloud(ax: Axes, points: NDArray[Any], values: NDArray[Any] | None) -> None:
    """Scatter all points alike, or in colours of a scale."""
    cloud = ax.scatter(
        points[:, 0],
        points[:, 1],
        s=18.0,
        c="#0072B2" if values is None else values,
        cmap=None if values is None else "viridis",
        alpha=opacity(len(points)),
        linewidths=0.0,
        rasterized=len(points) > VECTOR_LIMIT,
    )
    if values is not None:
        bar = ax.figure.colorbar(cloud, ax=ax, label="label")
        if bar.solids is not None:
            bar.solids.set_alpha(1.0)


def _check_labels(labels: Any, rows: int) -> NDArray[Any]:
    """Return one label for each row as an array, or say what is wrong."""
    values = labels.numpy(force=True) if isinstance(labels, torch.Tensor) else np.asarray(labels)
    if values.shape != (rows,):
        raise DataError(f"labels should have one value for each of {rows} rows, got shape {values.shape}.")
    if values.dtype.kind not in "biuf":
        values = values.astype(str)
        if (count := len(np.unique(values))) > MOST_CLASSES:
            raise DataError(
                f"labels should have at most {MOST_CLASSES} different values unless they are numbers, "
                f"got {count}: join some, or pass numbers."
            )
    return values
