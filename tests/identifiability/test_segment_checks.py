"""What a model of segments takes for granted: size where it holds, and verdicts where it does not."""

import pytest
import torch
from scipy import stats

import probae as pa
from probae.identifiability.report import Verdict
from probae.identifiability.segment_checks import segment_checks
from probae.identifiability.segment_information import SegmentFit

pytestmark = pytest.mark.filterwarnings("ignore::probae.errors.ProbaeWarning")

APART = torch.tensor([[1.0, 0.3], [0.4, 1.7], [1.6, 1.0], [1.0, 1.0]], dtype=torch.float64)
ALIKE = torch.tensor([[0.5, 0.5], [1.0, 1.0], [2.0, 2.0]], dtype=torch.float64)
MOVED = torch.tensor([[0.0, 0.0], [2.0, 2.0], [-1.0, 2.0], [1.0, 0.0]], dtype=torch.float64)


def draw(seed, variances, rows=1600, features=8, noise=0.2, means=None, level=None, heavy=False):
    """Factors with variances, means and noise of their segment, in random order."""
    g = torch.Generator().manual_seed(seed)
    place = torch.randint(0, len(variances), (rows,), generator=g)
    z = torch.randn(rows, 2, generator=g, dtype=torch.float64)
    if heavy:
        z = z / torch.randn(rows, 3, generator=g, dtype=torch.float64).square().mean(1, keepdim=True).sqrt()
    z = variances[place].sqrt() * z + (0.0 if means is None else means[place])
    mixing = torch.randn(features, 2, generator=g, dtype=torch.float64)
    e = noise**0.5 * torch.randn(rows, features, generator=g, dtype=torch.float64)
    return z @ mixing.T + (1.0 if level is None else level[place].sqrt().unsqueeze(1)) * e, place, mixing


def audited(x, place):
    run = pa.fit(pa.LinearFactorModel(x.shape[1], 2), x, pa.SegmentedLikelihood(place))
    return pa.audit(run, x)


def at_the_truth(seed, variances, noise=0.2, **settings):
    x, place, mixing = draw(seed, variances, noise=noise, **settings)
    level = torch.full((len(mixing),), noise, dtype=torch.float64)
    return segment_checks(SegmentFit(mixing, level, True, variances, x - x.mean(0), place))


@pytest.mark.parametrize(
    "settings",
    [{}, {"heavy": True}, {"noise": 2.0}, {"rows": 40}],
    ids=["normal", "heavy tails", "much noise", "few rows"],
)
def test_size_where_the_model_holds(settings):
    """Over 300 data sets no check rejects more often than level .01 allows, to a probability of .001."""
    count, rejected = 300, {"means": 0, "noise": 0, "axes": 0}
    for seed in range(count):
        for name, test in at_the_truth(seed, APART, **{"rows": 200, **settings}).items():
            rejected[name] += test.p_value < 0.01
    assert max(rejected.values()) <= stats.binom.ppf(0.999, count, 0.01), rejected


def test_axes_that_are_turned_are_not_held_against_the_model():
    """The statistic is what no axes close by explain: a small turn of them leaves it as it is."""
    x, place, mixing = draw(0, APART, noise=1e-9)
    nothing = torch.full((8,), 1e-9, dtype=torch.float64)
    values = []
    for turn in (0.0, 0.01):
        change = torch.tensor([[1.0, turn], [-turn, 1.0]], dtype=torch.float64)
        fit = SegmentFit(mixing @ change, nothing, True, APART, x - x.mean(0), place)
        values.append(segment_checks(fit)["axes"].statistic)
    assert values[1] == pytest.approx(values[0], abs=0.3)


def test_two_segments_always_share_axes():
    assert set(at_the_truth(0, APART[:2])) == {"means", "noise"}


def test_means_of_the_segments_are_not_taken_for_variances():
    """Factors of one variance whose means alone differ have no axes, and the remedy that is named leaves none."""
    x, place, _ = draw(1, torch.ones_like(APART), means=MOVED)
    report = audited(x, place)
    assert report.verdict is Verdict.MISSPECIFIED_FRAME
    assert "means of their own" in report.reasons[0]
    centred = x - torch.stack([x[place == level].mean(0) for level in range(4)])[place]
    assert audited(centred, place).verdict is Verdict.MODEL_ONLY


def test_axes_are_found_once_the_means_are_taken_out():
    x, place, mixing = draw(1, APART, means=MOVED)
    assert audited(x, place).verdict is Verdict.MISSPECIFIED_FRAME
    centred = x - torch.stack([x[place == level].mean(0) for level in range(4)])[place]
    run = pa.fit(pa.LinearFactorModel(8, 2), centred, pa.SegmentedLikelihood(place))
    assert pa.audit(run, centred).verdict is Verdict.IDENTIFIED_SP
    assert float(pa.match_columns(mixing, run.model.loadings).cosines.abs().min()) > 0.99


def test_noise_that_differs_is_not_taken_for_factors():
    x, place, _ = draw(0, ALIKE, noise=1.0, level=torch.tensor([0.5, 1.0, 4.0], dtype=torch.float64))
    report = audited(x, place)
    assert report.verdict is Verdict.MISSPECIFIED_FRAME
    assert "noise differs between the segments" in report.reasons[0]
    assert report.to_dict()["segments"]["checks"]["noise"] < 1e-6


def test_covariances_without_common_axes_are_refused():
    g = torch.Generator().manual_seed(0)
    place = torch.randint(0, 3, (1500,), generator=g)
    roots = torch.linalg.cholesky(
        torch.tensor(
            [[[1, 0.8], [0.8, 1]], [[1, -0.8], [-0.8, 1]], [[1.8, 0], [0, 0.2]]], dtype=torch.float64
        )
    )
    z = (roots[place] @ torch.randn(1500, 2, 1, generator=g, dtype=torch.float64)).squeeze(2)
    x = z @ torch.randn(8, 2, generator=g, dtype=torch.float64).T
    x = x + 0.4 * torch.randn(1500, 8, generator=g, dtype=torch.float64)
    report = audited(x, place)
    assert report.verdict is Verdict.MISSPECIFIED_FRAME
    assert "No axes make the factors uncorrelated" in report.reasons[0]
