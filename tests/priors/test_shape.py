"""Hyper-parameters: what is refused, and how a learnt one is held."""

import pytest
import torch

from probae.checks import ParameterError
from probae.priors import GeneralizedNormal, MultivariateStudentT, SpikeSlab, StudentT

NUMBERS = (float("nan"), float("inf"))


@pytest.mark.parametrize("family", [StudentT, MultivariateStudentT])
@pytest.mark.parametrize("df", [2, 1.5, -3, True, *NUMBERS])
def test_df_has_to_exceed_two(family, df):
    with pytest.raises(
        ParameterError, match="df should be a finite number above 2 .*variance is infinite.* got"
    ):
        family(df=df)


@pytest.mark.parametrize("shape", [0, -1, False, *NUMBERS])
def test_exponent_has_to_be_positive(shape):
    with pytest.raises(ParameterError, match="shape should be a finite number above 0 .*got"):
        GeneralizedNormal(shape=shape)


@pytest.mark.parametrize("value", [0, 1, -0.1, 2, True, *NUMBERS])
def test_spike_and_slab_take_fractions(value):
    with pytest.raises(ParameterError, match="probability should be a finite number between 0 and 1"):
        SpikeSlab(probability=value)
    with pytest.raises(ParameterError, match="spike should be a finite number between 0 and 1"):
        SpikeSlab(spike=value)


@pytest.mark.parametrize(("build", "bound"), [(lambda: StudentT(df=3.5, learn=True), 2.0), (None, 0.0)])
def test_a_learnt_shape_cannot_leave_its_range(build, bound):
    prior = build() if build else GeneralizedNormal(shape=0.7, learn=True)
    shape = (lambda: prior.df) if build else (lambda: prior.shape)
    assert float(shape().detach()) == pytest.approx(3.5 if build else 0.7, rel=1e-14)
    (parameter,) = prior.parameters()
    assert parameter.dtype == torch.float64
    with torch.no_grad():
        parameter.fill_(-30.0)
    assert float(shape().detach()) > bound


def test_a_fixed_shape_is_a_buffer():
    prior = StudentT(df=5)
    assert list(prior.parameters()) == []
    assert {name: float(value) for name, value in prior.state_dict().items()} == {"freedom.value": 5.0}
    assert repr(prior) == "StudentT(df=5)"
    assert repr(StudentT(df=5, learn=True)) == "StudentT(df=5, learn=True)"
