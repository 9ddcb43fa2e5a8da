"""The conventional axes of Gaussian factors: their errors against simulation, ties, units."""

import itertools
import json
import math

import pytest
import torch

import probae as pa
from probae import NotExactError, principal_frame, priors
from probae.linalg import haar_rotation


def ppca(variances, features=6, noise=0.5):
    """W' W / sigma^2 = diag(variances - 1), in a random frame."""
    generator = torch.Generator().manual_seed(0)
    basis = haar_rotation(features, generator)[:, : len(variances)]
    model = pa.ProbabilisticPCA(features, len(variances))
    size = torch.tensor([math.sqrt(noise * (value - 1)) for value in variances], dtype=torch.float64)
    model.loadings = basis * size @ haar_rotation(len(variances), generator)
    model.noise_variance = torch.tensor(noise, dtype=torch.float64)
    return model, basis


def test_errors_are_those_of_sample_eigenvectors():
    """400 samples of 1,000 rows: a root mean square has relative error 1 / sqrt(800); 4 of them, and terms of 1/n."""
    model, basis = ppca([12.0, 6.0, 3.0])
    covariance = model.marginal().covariance_matrix.detach()
    root = torch.linalg.cholesky(covariance)
    generator = torch.Generator().manual_seed(1)
    angles, across = [], []
    for _ in range(400):
        x = torch.randn(1000, 6, generator=generator, dtype=torch.float64) @ root.T
        vectors = torch.linalg.eigh(torch.cov(x.T))[1].flip(1)[:, :3]
        inner = basis.T @ vectors
        angles.append(
            [math.degrees(math.asin(float(inner[i, j]))) for i, j in itertools.combinations(range(3), 2)]
        )
        outside = vectors[:, 2] - basis @ inner[:, 2]
        across.append(math.degrees(math.asin(float(outside.norm()))))
    found = principal_frame(model, samples=1000)
    observed = torch.tensor(angles).square().mean(0).sqrt()
    for (_, predicted), seen in zip(found.errors, observed.tolist(), strict=True):
        assert predicted == pytest.approx(seen, rel=4 / math.sqrt(800) + 0.03)
    assert found.subspace_error == pytest.approx(math.sqrt(sum(a**2 for a in across) / 400), rel=0.2)


def test_ties_leave_subspaces_and_rows_resolve_what_is_no_tie():
    model, _ = ppca([9.0, 4.0, 4.0, 2.0])
    exact = principal_frame(model)
    assert exact.blocks == ((0,), (1, 2), (3,))
    assert not exact.distinct
    assert "axes 1 and 2" in exact.describe()
    near, _ = ppca([9.0, 4.2, 4.0])
    assert principal_frame(near).distinct
    # sqrt(4.2 * 4 / n) / .2 < 13 degrees from n = 8,160 on
    assert principal_frame(near, samples=8_000).blocks == ((0,), (1, 2))
    assert principal_frame(near, samples=8_400).distinct


def test_neither_rotations_nor_units_of_factor_analysis_matter():
    model = pa.FactorAnalysis(7, 3)
    before = principal_frame(model, samples=500)
    model.loadings = model.loadings.detach() @ haar_rotation(3, torch.Generator().manual_seed(3))
    model.rescale(10.0 ** torch.linspace(-3, 3, 7, dtype=torch.float64))
    after = principal_frame(model, samples=500)
    assert torch.allclose(after.variances, before.variances, rtol=1e-9)
    correlated = pa.LinearFactorModel(7, 2, priors.CorrelatedGaussian([[1.0, 0.8], [0.8, 1.0]]))
    whole = correlated.loadings.detach() @ correlated.factor_correlation @ correlated.loadings.detach().T
    values = torch.linalg.eigvalsh(whole).flip(0)[:2]  # noise of 1
    assert torch.allclose(principal_frame(correlated).variances - 1, values, rtol=1e-9)


def test_without_noise_the_variances_are_those_of_x():
    model = pa.LinearFactorModel(3, 3, noise="none")
    model.loadings = torch.diag(torch.tensor([1.0, 3.0, 3.0])).double()
    found = principal_frame(model, samples=100)
    assert found.variances.tolist() == pytest.approx([9.0, 9.0, 1.0])
    assert (found.blocks, found.subspace_error) == (((0, 1), (2,)), 0.0)
    assert json.loads(json.dumps(found.to_dict()))["errors_degrees"][0]["degrees"] is None


def test_axes_of_other_factors_are_no_convention():
    with pytest.raises(NotExactError, match="Principal axes are those of Gaussian factors"):
        principal_frame(pa.LinearFactorModel(5, 2, priors.Laplace()))


def test_an_audit_says_which_subspaces_principal_components_know():
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(2000, 6, generator=generator, dtype=torch.float64) * torch.tensor(
        [3.0, 2.0, 2.0, 1.0, 1.0, 1.0]
    )
    report = pa.audit(pa.fit(pa.ProbabilisticPCA(6, 3), x), x)
    assert report.evidence.principal.blocks == ((0,), (1, 2))
    assert "known only as the subspaces they span: axes 1 and 2" in str(report)
    assert report.to_dict()["structure"]["principal_frame"]["samples"] == 2000
