"""Topic documents: laws, moments, seeds."""

import pytest
import torch

from probae import ParameterError
from probae.datasets import topic_documents


def test_counts_follow_the_mixture_of_topics():
    data = topic_documents(20_000, words=8, topics=2, length=20.0, mixing=0.5, overlap=1.0)
    law = data.truth["shares"] @ data.truth["topics"]
    torch.testing.assert_close(law.sum(1), torch.ones(20_000, dtype=torch.float64))
    total = data.x.sum(1)
    # mean length: Poisson variance 19; residuals per word: at most 20 / 4 of variance
    assert float(total.mean()) == pytest.approx(20, abs=4 * (19 / 20_000) ** 0.5)
    residual = data.x - total[:, None] * law
    assert float(residual.mean(0).abs().max()) < 4 * (5 / 20_000) ** 0.5
    # variance n p (1 - p), its mean over rows to a few per cent
    expected = (total[:, None] * law * (1 - law)).mean(0)
    torch.testing.assert_close(residual.square().mean(0), expected, rtol=0.06, atol=0)
    assert torch.equal(data.labels, data.truth["shares"].argmax(1))


def test_one_seed_one_corpus_and_the_caller_state_stays():
    state = torch.get_rng_state()
    one, two, other = (topic_documents(50, 20, 3, seed=seed).x for seed in (1, 1, 2))
    assert torch.equal(one, two)
    assert not torch.equal(one, other)
    assert torch.equal(state, torch.get_rng_state())
    assert torch.equal(topic_documents(9, 20, 3).truth["topics"], topic_documents(50, 20, 3).truth["topics"])
    assert float(one.sum(1).min()) >= 1


def test_settings_out_of_range_are_refused():
    for settings in ({"length": 1.0}, {"mixing": 0.0}, {"overlap": -1.0}, {"topics": 0}):
        with pytest.raises(ParameterError):
            topic_documents(**settings)


@pytest.mark.parametrize("length", ["a", None, [3.0], float("nan")])
def test_a_length_that_is_no_number_is_refused_by_its_name(length):
    with pytest.raises(ParameterError, match="^length should be a finite number above 0"):
        topic_documents(5, length=length)
