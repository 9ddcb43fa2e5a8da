"""Split R-hat and the effective sample size."""

import arviz_stats.base
import pytest
import torch

from probae.inference import mixing
from probae.inference.mixing import effective_sample_size, split_r_hat


def autoregressive(phi, chains=4, length=2000, columns=3):
    e = torch.randn(chains, length, columns, dtype=torch.float64)
    x = [e[:, 0] / (1 - phi**2) ** 0.5]
    for t in range(1, length):
        x.append(phi * x[-1] + e[:, t])
    return torch.stack(x, 1)


@pytest.mark.parametrize("phi", [-0.5, 0.0, 0.5, 0.95])
def test_both_agree_with_arviz(phi):
    """The same formulas: its ESS splits the chains, which moves it by a little."""
    draws = autoregressive(phi)
    stats = arviz_stats.base.array_stats
    for k in range(3):
        one = draws[:, :, k].numpy()
        theirs = stats.rhat(one, method="split", chain_axis=0, draw_axis=1)
        assert split_r_hat(draws)[k].item() == pytest.approx(float(theirs), rel=1e-12)
        theirs = stats.ess(one, method="mean", chain_axis=0, draw_axis=1)
        assert effective_sample_size(draws)[k].item() == pytest.approx(float(theirs), rel=0.15)


@pytest.mark.parametrize("phi", [0.0, 0.5, 0.9])
def test_size_of_an_autoregression_is_known(phi):
    """n (1 - phi) / (1 + phi); 30 columns average its error, about 10 %, to 2 %."""
    size = effective_sample_size(autoregressive(phi, columns=30)).mean().item()
    assert size == pytest.approx(8000 * (1 - phi) / (1 + phi), rel=0.08)


def test_chains_in_different_places_are_noticed():
    draws = torch.randn(2, 100, 1)
    assert split_r_hat(draws).item() < 1.1
    assert split_r_hat(draws + torch.tensor([0.0, 5.0]).view(2, 1, 1)).item() > 2
    assert effective_sample_size(draws + torch.tensor([0.0, 5.0]).view(2, 1, 1)).item() < 10


def test_constant_and_short_chains():
    assert split_r_hat(torch.ones(2, 50, 3)).tolist() == [1.0, 1.0, 1.0]
    assert effective_sample_size(torch.ones(2, 50, 3)).tolist() == [100.0, 100.0, 100.0]
    assert split_r_hat(torch.randn(2, 3, 1)).isnan().all()
    assert effective_sample_size(torch.randn(2, 3, 1)).isnan().all()


def test_blocks_change_nothing(monkeypatch):
    draws = torch.randn(2, 40, 5, 3, dtype=torch.float64)
    whole = effective_sample_size(draws)
    monkeypatch.setattr(mixing, "BLOCK", 2 * 40 * 4)
    assert torch.allclose(effective_sample_size(draws), whole, rtol=1e-12)
    assert whole.shape == (5, 3)
