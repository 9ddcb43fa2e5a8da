"""The heat map shows the loadings themselves, by name, with signs that survive a grey copy."""

import math
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure

import probae as pa
from probae.checks import ParameterError
from probae.plots.heat_map import RISING_MAP, signed_numbers


def labels(axis):
    return [label.get_text() for label in axis.get_ticklabels()]


def numbers(ax):
    return [float(text.get_text().replace("−", "-")) for text in ax.texts]


def test_the_array_shown_is_the_loadings(factors):
    ax = pa.plots.loadings(factors)
    [image] = ax.images
    assert np.array_equal(image.get_array(), factors.model.loadings.numpy())
    assert image.norm.vmax == -image.norm.vmin == factors.model.loadings.abs().max()
    assert labels(ax.yaxis) == [str(d) for d in range(9)]
    assert labels(ax.xaxis) == ["z[0]", "z[1]", "z[2]"]
    assert ax.get_ylabel() == "feature"
    assert ax.figure.axes[1].get_ylabel() == "loading (units of x)"


def test_names_of_the_features_are_the_row_labels(pupils):
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame(pupils.x.numpy(), columns=pupils.feature_names)
    ax = pa.plots.loadings(pa.fit(pa.FactorAnalysis(9, 2), frame))
    assert labels(ax.yaxis) == list(pupils.feature_names)
    assert ax.get_ylabel() == ""


def test_small_matrices_carry_their_signed_values(factors):
    ax = pa.plots.loadings(factors)
    # printed with two decimals
    assert numbers(ax) == pytest.approx(factors.model.loadings.flatten().tolist(), abs=0.005 + 1e-12)
    assert all(text.get_text()[0] in "+−" for text in ax.texts)
    assert [text.get_position() for text in ax.texts[:4]] == [(0, 0), (1, 0), (2, 0), (0, 1)]


def test_print_stands_out_from_its_cell(factors):
    ax = pa.plots.loadings(factors)
    cells = ax.images[0].to_rgba(factors.model.loadings.numpy()).reshape(-1, 4)
    luminance = np.where(cells <= 0.04045, cells / 12.92, ((cells + 0.055) / 1.055) ** 2.4)[:, :3] @ [
        0.2126,
        0.7152,
        0.0722,
    ]
    ink = np.array([float(text.get_color() == "white") for text in ax.texts])
    contrast = (np.maximum(ink, luminance) + 0.05) / (np.minimum(ink, luminance) + 0.05)
    assert contrast.min() >= 3.0  # what WCAG 2 asks of large print and graphics


def test_standardized_loadings_are_the_correlations_of_the_model(factors, pupils):
    model = factors.model
    shown = np.asarray(pa.plots.loadings(factors, standardized=True).images[0].get_array())
    covariance = model.loadings @ model.loadings.T + model.uniquenesses.diag()
    assert shown == pytest.approx((model.loadings / covariance.diagonal().sqrt()[:, None]).numpy(), abs=1e-12)
    # at the maximum of the likelihood the model's variances are those of the data
    data_scale = pupils.x.std(0, correction=0)[:, None]
    assert shown == pytest.approx((model.loadings / data_scale).numpy(), abs=1e-4)


def test_standardized_loadings_agree_with_simulated_correlations(known):
    fit = known(
        [[2.0, -1.0], [0.0, 3.0]],
        prior=pa.priors.Independent([pa.priors.Gaussian(), pa.priors.Scaled(pa.priors.Laplace(), 2.0)]),
    )
    ax = pa.plots.loadings(fit, standardized=True)
    # cov(x, z) = W diag(1, 4); var x = (4 + 4 + 1, 36 + 1); sd z = (1, 2)
    expected = [[2 / 3, -2 / 3], [0.0, 6 / math.sqrt(37)]]
    assert np.asarray(ax.images[0].get_array()) == pytest.approx(np.array(expected), abs=1e-12)
    assert ax.images[0].norm.vmax == 1.0
    assert ax.figure.axes[1].get_ylabel() == "correlation"


def test_without_noise_standardized_rows_have_length_one(known):
    fit = known([[2.0, -1.0], [0.5, 3.0]], prior=pa.priors.Laplace(), noise="none")
    shown = np.asarray(pa.plots.loadings(fit, standardized=True).images[0].get_array())
    assert np.square(shown).sum(1) == pytest.approx([1.0, 1.0], abs=1e-12)


def test_many_features_stand_without_labels_and_numbers(known):
    W = np.random.default_rng(0).standard_normal((300, 200))
    ax = pa.plots.loadings(known(W))
    assert len(ax.texts) == 0
    assert labels(ax.yaxis) == labels(ax.xaxis) == []
    assert (ax.get_ylabel(), ax.get_xlabel()) == ("300 features", "200 factors")
    assert ax.images[0].get_array().shape == (300, 200)


def test_cells_too_small_for_numbers_keep_labels_and_change_the_map(known):
    ax = pa.plots.loadings(known(np.eye(60)[:, :4]))
    assert len(labels(ax.yaxis)) == 60
    assert len(ax.texts) == 0
    assert ax.images[0].get_cmap() == RISING_MAP


def test_a_small_axes_of_the_caller_gets_no_numbers(factors):
    ax = Figure(figsize=(1.5, 1.0)).add_subplot()
    assert len(pa.plots.loadings(factors, ax).texts) == 0


def test_the_map_without_numbers_keeps_the_order_in_grey():
    grey = RISING_MAP(np.linspace(0.0, 1.0, 256))[:, :3] @ [0.299, 0.587, 0.114]
    assert (np.diff(grey) > 0).all()


def test_loadings_of_zero_can_be_drawn(known):
    ax = pa.plots.loadings(known(np.zeros((3, 1))))
    assert numbers(ax) == [0.0, 0.0, 0.0]


@pytest.mark.parametrize("scale", [1e-9, 1e-3, 0.3, 4.0, 77.0, 5e3, 1e12])
def test_numbers_keep_the_largest_to_a_tenth_at_any_scale(scale):
    values = scale * np.array([[1.0, -0.5], [0.25, 0.0]])
    printed = signed_numbers(values)
    read = np.array([[float(number.replace("−", "-")) for number in row] for row in printed])
    # the coarsest print has one digit: it is off by at most half of the last of 1.5, 2.5, ...
    assert np.abs(read - values).max() <= 0.1 * scale
    assert printed[0, 1][0] == "−"
    assert max(map(len, printed.flat)) <= 7


def test_a_model_without_loadings_is_refused(factors):
    bare = replace(factors, model=SimpleNamespace(latents=2))
    with pytest.raises(ParameterError, match="a model with loadings, .*, got one of SimpleNamespace"):
        pa.plots.loadings(bare)


def test_loadings_that_are_not_finite_are_refused(known):
    with pytest.raises(ParameterError, match="not finite: fit the model again"):
        pa.plots.loadings(known(torch.tensor([[1.0], [math.nan]])))
