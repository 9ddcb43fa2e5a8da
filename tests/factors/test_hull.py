"""The Hull method: its elbow by hand, its measures of fit against psych."""

import numpy as np
import pytest

import probae as pa
from probae.factors.hull import elbow, sampling_adequacy
from probae.factors.number import HullCAF, HullCFI, HullRMSEA


def test_sampling_adequacy_as_psych(harman74):
    # R 4.2.2, psych 2.2.9: KMO(Harman74.cor$cov)$MSA; KMO(cor(x))$MSA of the nine tests
    assert sampling_adequacy(harman74.covariance.numpy()) == pytest.approx(0.8813335024, rel=1e-9)
    R = np.corrcoef(pa.datasets.holzinger_swineford().x.numpy().T)
    assert sampling_adequacy(R) == pytest.approx(0.752244592603, rel=1e-9)


def test_common_variance_accounted_for_as_from_factanal_and_psych():
    # R 4.2.2, psych 2.2.9: f <- factanal(covmat = R, factors = k); L <- unclass(loadings(f)); D <- R - L %*% t(L);
    # diag(D) <- 1; 1 - KMO(D)$MSA for k = 1, 2, 3
    known = [0.349027302167, 0.37854865067, 0.498400404084]
    x = pa.datasets.holzinger_swineford().x
    judgement = pa.number_of_factors(x, rules=[HullCAF()]).judgements[0]
    assert judgement.values[1:4].numpy() == pytest.approx(known, abs=1e-5)
    assert judgement.answer == 3


@pytest.mark.parametrize(
    ("fit", "parameters", "answer"),
    [
        # gains per parameter .10, .05, .01: ratios 2 and 5
        ([0.0, 0.5, 0.7, 0.73], [0, 5, 9, 12], 2),
        # the second point lies below the line from the first to the third, so it is not on the hull
        ([0.0, 0.1, 0.8, 0.85, 0.88], [0, 5, 10, 15, 20], 2),
        # the third fits worse than the second
        ([0.0, 0.6, 0.5, 0.7, 0.75], [0, 1, 2, 3, 4], 1),
        # nothing after the second fits better
        ([0.0, 0.3, 0.9, 0.85, 0.9], [0, 1, 2, 3, 4], 2),
        # gains grow to the end, or there are none at all
        ([0.0, 0.1, 0.5], [0, 1, 2], None),
        ([1.0, 1.0, 1.0], [0, 1, 2], None),
    ],
)
def test_the_elbow_by_hand(fit, parameters, answer):
    assert elbow(np.array(fit), np.array(parameters, dtype=float)) == answer


def test_the_elbow_does_not_depend_on_the_scale_of_the_fit():
    generator = np.random.default_rng(0)
    for _ in range(50):
        fit, parameters = np.sort(generator.uniform(size=7)), np.cumsum(generator.uniform(1, 5, 7))
        assert elbow(fit, parameters) == elbow(3 * fit - 2, 5 * parameters + 1)


def test_three_measures_find_correlated_factors():
    generator = np.random.default_rng(1)
    z = generator.standard_normal((600, 3)) @ np.linalg.cholesky(0.6 * np.eye(3) + 0.4).T
    x = z @ (0.7 * np.kron(np.eye(3), np.ones((1, 5)))) + np.sqrt(0.51) * generator.standard_normal((600, 15))
    rules = [HullCAF(), HullCFI(), HullRMSEA()]
    assert set(pa.number_of_factors(x, rules=rules).answers.values()) == {3}
