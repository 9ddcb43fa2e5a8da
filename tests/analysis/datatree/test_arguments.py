"""What to_datatree refuses, and what it says."""

import numpy as np
import pandas as pd
import pytest

import probae as pa

D, K = 5, 2


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        (
            {"groups": ["posterior", "loo"]},
            pa.ParameterError,
            "each group should be 'posterior', .*, got 'loo'",
        ),
        ({"draws": 0}, pa.ParameterError, "draws should be a whole number of at least 1"),
        ({"seed": -1}, pa.ParameterError, "seed should be"),
        ({"estimator": "exact"}, pa.ParameterError, "estimator should be one such as"),
        ({"x": pd.DataFrame(np.zeros((3, D)), columns=list("edcba"))}, pa.DataError, "names"),
        ({"x": np.zeros((3, 2))}, pa.DataError, "features"),
    ],
)
def test_bad_arguments_get_a_sentence(arguments, error, message, run, frame):
    with pytest.raises(error, match=message):
        pa.to_datatree(run, **({"x": frame} | arguments))


def test_what_is_no_fit_gets_a_sentence(frame, sampler_fit):
    with pytest.raises(pa.ParameterError, match="run should be the result of fit, got FactorAnalysis"):
        pa.to_datatree(pa.FactorAnalysis(2, 1), frame)
    with pytest.raises(pa.NotExactError, match="latents=False"):
        pa.to_datatree(
            sampler_fit(pa.LinearFactorModel(D, K, prior=pa.priors.Laplace())), frame, latents=True
        )
