"""Minka's evidence against scikit-learn, and against an integral that can be done."""

import numpy as np
import pytest
import torch
from scipy.special import gammaln
from sklearn.decomposition import PCA

import probae as pa
from probae.factors.minka import log_evidence
from probae.factors.number import MinkaEvidence


@pytest.mark.parametrize("seed", range(12))
def test_the_same_number_as_scikit_learn(seed):
    generator = np.random.default_rng(seed)
    p = int(generator.integers(4, 25))
    x = pa.datasets.linear_factors(200, p, int(generator.integers(1, 4)), seed=seed).x.numpy()
    evidence = pa.number_of_factors(x, rules=[MinkaEvidence()]).judgements[0].values
    peer = PCA(n_components="mle", svd_solver="full").fit(x).n_components_
    assert 1 + int(evidence[1:].argmax()) == peer  # scikit-learn does not ask about 0


def test_one_component_of_two_by_hand():
    """Eq. 77 of Minka's report for p = 2, k = 1: one angle, U on the half circle of length pi.

    log p(U) = -log 2 + log Gamma(1) - log pi, A_Z = (l1 - l2) (1 / l2 - 1 / l1) n, m = 1.
    """
    l1, l2, n = 3.0, 1.0, 50
    expected = -np.log(2) + gammaln(1.0) - np.log(np.pi) - 0.5 * n * (np.log(l1) + np.log(l2))
    expected += (
        0.5 * 2 * np.log(2 * np.pi) - 0.5 * np.log((l1 - l2) * (1 / l2 - 1 / l1) * n) - 0.5 * np.log(n)
    )
    assert log_evidence(np.array([l1, l2]), n)[1] == pytest.approx(expected, rel=1e-12)
    assert log_evidence(np.array([l1, l2]), n)[0] == pytest.approx(-0.5 * n * 2 * np.log(2.0), rel=1e-12)


@pytest.mark.parametrize("k", [0, 1, 3, 5])
def test_isotropic_noise_is_what_it_is_made_for(k):
    generator = torch.Generator().manual_seed(k)
    x = torch.randn(600, 12, generator=generator, dtype=torch.float64)
    if k:
        W = torch.linalg.qr(torch.randn(12, k, generator=generator, dtype=torch.float64))[0] * 3
        x = x + torch.randn(600, k, generator=generator, dtype=torch.float64) @ W.T
    assert pa.number_of_factors(x, rules=[MinkaEvidence()]).answers == {"Minka evidence": k}


def test_equal_eigenvalues_give_finite_evidence():
    assert np.isfinite(log_evidence(np.ones(5), 100)).all()


def test_it_looks_at_the_covariance_in_the_units_of_x():
    x = pa.datasets.holzinger_swineford().x
    first, second = (
        pa.number_of_factors(one, rules=[MinkaEvidence()]).judgements[0].values for one in (x, x / x.std(0))
    )
    assert not torch.allclose(first, second, atol=0.1)
