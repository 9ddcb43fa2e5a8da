"""Seeded documents whose topics are known."""

from __future__ import annotations

import torch
from pyro.distributions import Dirichlet

from probae.checks import check_count, check_positive
from probae.datasets.base import Dataset


def topic_documents(
    samples: int = 2000,
    words: int = 500,
    topics: int = 10,
    *,
    length: float = 60.0,
    mixing: float = 0.1,
    overlap: float = 0.1,
    seed: int = 0,
) -> Dataset:
    r"""Draw word counts of documents by latent Dirichlet allocation [1]_.

    .. math:: \phi_t \sim \text{Dirichlet}(\text{overlap}), \quad \theta_n \sim \text{Dirichlet}(\text{mixing}), \quad
              x_n \sim \text{Multinomial}(1 + \text{Poisson}(\text{length} - 1), \theta_n \phi)

    Parameters
    ----------
    samples, words, topics : int
    length : float
        Expected words of a document, above 1.
    mixing : float
        Small values make documents of one topic, large ones mix all.
    overlap : float
        Small values give topics their own words, large ones make topics alike.
    seed : int
        Of topics, then documents.

    Returns
    -------
    Dataset
        x holds counts, labels the topic with the largest share. `truth` holds topics (T, D), each a law over words, and
        shares (N, T).

    Raises
    ------
    ParameterError
        If a setting is out of its range.

    References
    ----------
    .. [1] Blei, D. M., Ng, A. Y. & Jordan, M. I. (2003). Latent Dirichlet allocation. Journal of Machine Learning
       Research 3, 993-1022.

    Examples
    --------
    >>> data = topic_documents(100, words=30, topics=3)
    >>> data.x.shape, data.labels.unique().tolist(), data.truth["topics"].shape
    (torch.Size([100, 30]), [0, 1, 2], torch.Size([3, 30]))
    """
    for name, count in (("samples", samples), ("words", words), ("topics", topics)):
        check_count(name, count)
    for name, number in (("length", length), ("mixing", mixing), ("overlap", overlap)):
        check_positive(name, number)
    check_positive("length - 1", length - 1)
    with torch.random.fork_rng(devices=[]):
        torch.random.default_generator.manual_seed(check_count("seed", seed, 0))
        phi = Dirichlet(torch.full((words,), float(overlap), dtype=torch.float64)).sample((topics,))
        theta = Dirichlet(torch.full((topics,), float(mixing), dtype=torch.float64)).sample((samples,))
        total = 1 + torch.poisson(torch.full((samples,), float(length) - 1, dtype=torch.float64)).long()
        # words drawn one by one up to the longest document, those past a document's end not counted
        drawn = torch.multinomial(theta @ phi, int(total.max()), replacement=True)
        counted = (torch.arange(drawn.shape[1]) < total[:, None]).double()
    x = torch.zeros(samples, words, dtype=torch.float64).scatter_add_(1, drawn, counted)
    return Dataset(
        x,
        tuple(f"word{d + 1}" for d in range(words)),
        f"latent Dirichlet allocation, {topics} topics, seed {seed}",
        {"topics": phi, "shares": theta},
        theta.argmax(1),
    )
