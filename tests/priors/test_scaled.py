"""A scaled law: sd times a draw of the law inside."""

import pytest
import torch

from probae.checks import ParameterError
from probae.priors import Gaussian, Independent, Laplace, MultivariateStudentT, Scaled, StudentT


def test_joint_laws_scale_every_latent():
    inner, z = MultivariateStudentT(df=5), torch.randn(4, 3, dtype=torch.float64)
    prior = Scaled(inner, sd=2.0)
    change = 3 * torch.tensor(2.0, dtype=torch.float64).log()
    torch.testing.assert_close(prior.log_prob(z), inner.log_prob(z / 2) - change)
    assert (prior.event_dim, prior.spherical, prior.has_scale_mixture) == (1, True, True)
    assert prior.coordinates(3) is None
    assert prior.distribution(3).variance.tolist() == pytest.approx([4.0] * 3)
    assert prior.sample(5, 3).shape == (5, 3)


def test_coordinates_are_scaled_too():
    laws = Scaled(Independent([Laplace(), Gaussian()]), sd=2.0).coordinates(2)
    assert [repr(law) for law in laws] == ["Scaled(Laplace(), sd=2)", "Scaled(Gaussian(), sd=2)"]


def test_information_of_the_noisy_law_is_free_of_the_scale():
    assert Scaled(Laplace(), sd=5.0).noisy_fisher_information(2.5) == pytest.approx(
        Laplace().noisy_fisher_information(0.1), rel=1e-12
    )


def test_draws_carry_the_gradient_of_a_learnt_shape():
    inner = StudentT(df=5, learn=True)
    Scaled(inner, sd=2.0).distribution(3).rsample((10,)).square().sum().backward()
    assert float(inner.freedom.log_excess.grad.abs()) > 0


@pytest.mark.parametrize("sd", [0.0, -1.0, float("inf")])
def test_sd_has_to_be_positive(sd):
    with pytest.raises(ParameterError, match="sd should be a finite number above 0"):
        Scaled(Laplace(), sd=sd)
