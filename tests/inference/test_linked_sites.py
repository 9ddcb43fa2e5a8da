"""Every site moves with the loadings, so that no product that the data see changes."""

import numpy as np
import pytest
import torch

from probae.inference.assignment import signed_permutation
from probae.inference.linked_sites import move_sites
from probae.linalg import haar_rotation


def normal(*shape, seed=0):
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def sites():
    """Draws of every kind of site, (2 chains, 5 draws, ...), of 6 features, 3 factors and 4 rows."""
    root = normal(2, 5, 3, 3, seed=9)
    return {
        "loadings": normal(2, 5, 6, 3),
        "noise_variance": normal(2, 5, 6, seed=1).exp(),
        "mean": normal(2, 5, 6, seed=2),
        "z": normal(2, 5, 4, 3, seed=3),
        "factor_mean": normal(2, 5, 3, seed=4),
        "factor_covariance": root @ root.mT,
        "loadings_precision": normal(2, 5, 3, seed=5).exp(),
        "loadings_local_scale": normal(2, 5, 6, 3, seed=6).exp(),
        "loadings_shrinkage": normal(2, 5, 3, seed=7).exp(),
        "loadings_global_scale": normal(2, 5, seed=8).exp(),
    }


def permutations():
    random = np.random.default_rng(0)
    order = random.permuted(np.broadcast_to(np.arange(3), (2, 5, 3)), axis=-1)
    return signed_permutation(
        torch.from_numpy(order), torch.from_numpy(random.choice([-1.0, 1.0], (2, 5, 3)))
    )


CHANGES = {
    "permutation": permutations(),
    "rotation": haar_rotation(3, torch.Generator().manual_seed(0), 10).view(2, 5, 3, 3),
    "general": normal(2, 5, 3, 3, seed=11) + 3 * torch.eye(3).double(),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_products_with_the_loadings_do_not_change(change):
    before = sites()
    after, _ = move_sites(before, change)
    W, A = before["loadings"], after["loadings"]
    # products of a dozen numbers up to 10 or so, and an inverse of condition below 100
    assert torch.allclose(after["z"] @ A.mT, before["z"] @ W.mT, atol=1e-10)
    assert torch.allclose(
        A @ after["factor_mean"][..., None], W @ before["factor_mean"][..., None], atol=1e-10
    )
    covariance = A @ after["factor_covariance"] @ A.mT
    assert torch.allclose(covariance, W @ before["factor_covariance"] @ W.mT, atol=1e-9)
    for name in ("noise_variance", "mean", "loadings_global_scale"):
        assert torch.equal(after[name], before[name])


def test_hyperparameters_follow_their_columns():
    """Precision times squared loading, entry by entry, is that of the column wherever it went."""
    before = sites()
    change = CHANGES["permutation"]
    after, left_out = move_sites(before, change)
    assert left_out == ()
    squares = [before["loadings"].square(), after["loadings"].square()]
    for name in ("loadings_precision", "loadings_local_scale"):
        own, moved = (d[name] if d[name].dim() == 4 else d[name].unsqueeze(-2) for d in (before, after))
        assert torch.equal((own * squares[0]) @ change.abs(), moved * squares[1])
    products = before["loadings_shrinkage"].cumprod(-1).unsqueeze(-2) @ change.abs()
    assert torch.allclose(after["loadings_shrinkage"].cumprod(-1), products.squeeze(-2), rtol=1e-14)


def test_what_a_rotation_cannot_move_is_named():
    after, left_out = move_sites(sites(), CHANGES["rotation"])
    assert left_out == ("loadings_precision", "loadings_local_scale", "loadings_shrinkage")
    assert not set(left_out) & set(after)
    assert set(after) | set(left_out) == set(sites())


def test_inputs_are_not_changed():
    before, kept = sites(), sites()
    move_sites(before, CHANGES["permutation"])
    assert all(torch.equal(before[name], kept[name]) for name in kept)
