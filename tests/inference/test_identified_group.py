"""Which changes of the factors a model leaves free, and that alignment uses these and no more."""

import pyro.distributions as dist
import pytest
import torch

import probae as pa
from probae import parameter_priors, priors
from probae.errors import NotExactError
from probae.identifiability.structure import structure
from probae.inference.identified_group import identified_group, leaves_rotation
from probae.linalg import haar_rotation
from probae.priors.information import is_symmetric, spread_of

FIVE = priors.StudentT(df=5.0)
MIXED = priors.Independent([priors.Laplace(), priors.Gaussian(), priors.Laplace(), priors.Gaussian()])
LAWS = [
    (None, 3, "O(3)"),
    (priors.Gaussian(), 1, "S(1)"),
    (priors.Laplace(), 3, "SP(3)"),
    (FIVE, 1, "S(1)"),
    (priors.MultivariateStudentT(df=5.0), 2, "O(2)"),
    (priors.Independent([priors.Laplace(), priors.Laplace(), FIVE]), 3, "SP(2) x S(1)"),
    (priors.Independent([priors.Laplace(), FIVE, priors.Gaussian()]), 3, "S(3)"),
    (MIXED, 4, "SP(2) x O(2)"),
    (priors.Independent([priors.Scaled(priors.Laplace(), 2.0), priors.Laplace()]), 2, "S(2)"),
    (priors.Independent([priors.Scaled(priors.Gaussian(), 2.0), priors.Gaussian()]), 2, "O(2)"),
]


class Skewed(priors.Prior):
    """A centred exponential law: its sign is not free."""

    def log_prob(self, z):
        return torch.where(z > -1, -z - 1, -torch.inf)

    def distribution(self, latents, like=None):
        return dist.Normal(torch.zeros(latents), torch.ones(latents)).to_event(1)  # for its variance

    def fisher_information(self):
        return 2.0


def normal(*shape, seed=0):
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def haar(latents, *batch, seed=0):
    found = haar_rotation(latents, torch.Generator().manual_seed(seed), batch[0] * batch[1])
    return found.view(*batch, latents, latents)


@pytest.mark.parametrize(("law", "latents", "name"), LAWS)
def test_the_law_of_the_factors_decides(law, latents, name):
    assert identified_group(pa.LinearFactorModel(9, latents, prior=law)).name == name


@pytest.mark.parametrize(("law", "latents", "name"), LAWS)
def test_the_group_turns_what_the_audit_calls_a_block(law, latents, name):
    group = identified_group(pa.LinearFactorModel(9, latents, prior=law))
    blocks = structure(law or priors.Gaussian(), latents).blocks
    assert [set(block) for block in blocks if len(block) > 1] == [set(group.block)] * group.rotates


def test_a_skewed_law_has_no_free_signs():
    assert not is_symmetric(Skewed())
    assert identified_group(pa.LinearFactorModel(9, 2, prior=Skewed())).name == "P(2)"
    model = pa.LinearFactorModel(9, 2, prior=priors.Independent([Skewed(), priors.Laplace()]))
    assert identified_group(model).name == "I(1) x S(1)"


def test_zeros_in_fixed_places_leave_signs():
    model = pa.ConfirmatoryFactorAnalysis([[1, 0], [1, 0], [1, 0], [0, 1], [0, 1], [0, 1]])
    assert identified_group(model).name == "S(2)"


@pytest.mark.parametrize(
    ("prior", "free"),
    [
        (parameter_priors.Normal(2.0), True),
        (parameter_priors.Normal(torch.arange(1.0, 10.0)), True),
        (parameter_priors.Normal(torch.tensor([[1.0, 2.0, 3.0]])), False),
        (parameter_priors.ARD(), False),
        (parameter_priors.Horseshoe(), False),
        (dist.Normal(0.0, 1.0), True),
        (dist.Normal(0.0, torch.tensor([1.0, 2.0, 3.0])), False),
        (dist.Normal(1.0, 1.0), False),
        (dist.Laplace(0.0, 1.0), False),
    ],
)
def test_a_prior_that_is_not_invariant_leaves_signs_and_order(prior, free):
    assert leaves_rotation(prior) == free
    group = identified_group(pa.FactorAnalysis(9, 3), prior)
    assert group.name == ("O(3)" if free else "SP(3)")
    assert ("prior" in group.reason) != free


def test_each_part_is_aligned_by_its_own_group():
    """Laplace columns 0 and 2 are permuted and reflected, Gaussian columns 1 and 3 turned."""
    W = normal(8, 4) + 0.05 * normal(3, 40, 8, 4, seed=1)
    turned = W.clone()
    turned[..., [1, 3]] = W[..., [1, 3]] @ haar(2, 3, 40)
    turned[:, ::3] = turned[:, ::3][..., [2, 1, 0, 3]] * torch.tensor([-1.0, 1.0, 1.0, 1.0])
    group = identified_group(pa.LinearFactorModel(8, 4, prior=MIXED))
    R = group.rotations(turned)
    assert torch.equal(R[..., [0, 2], :][..., [1, 3]], torch.zeros(3, 40, 2, 2).double())
    assert set(R[..., [0, 2], :][..., [0, 2]].abs().unique().tolist()) == {0.0, 1.0}
    A = turned @ R
    # the spread is that of the draws, .05, less what turning takes away
    assert float((A - A.mean((0, 1))).abs().max()) < 0.05 * 6
    assert torch.allclose(A @ A.mT, turned @ turned.mT, atol=1e-12)


@pytest.mark.parametrize(
    "law",
    [
        priors.Independent([priors.Scaled(priors.Gaussian(), 3.0), priors.Gaussian()]),
        priors.CorrelatedGaussian(torch.tensor([[1.0, 0.6], [0.6, 1.0]])),
    ],
)
def test_factors_of_another_covariance_are_turned_by_the_conjugate_group(law):
    """With covariance C of the factors W C W' is the invariant; a plain rotation would change it."""
    C = (
        law.distribution(2).covariance_matrix
        if hasattr(law, "correlation")
        else torch.diag(torch.tensor([9.0, 1.0]))
    )
    C = C.detach().double()
    values, vectors = torch.linalg.eigh(C)
    root = (vectors * values.sqrt()) @ vectors.mT
    W = normal(7, 2)
    turned = W @ root @ haar(2, 2, 20) @ torch.linalg.inv(root)
    R = identified_group(pa.LinearFactorModel(7, 2, prior=law)).rotations(turned)
    A = turned @ R
    assert torch.allclose(A @ C @ A.mT, turned @ C @ turned.mT, atol=1e-11)
    assert float((A - A[0, 0]).abs().max()) < 1e-11
    assert not torch.allclose(R @ R.mT, torch.eye(2).double().expand_as(R), atol=1e-3)


def test_onto_finds_the_member_that_was_applied():
    for law, latents, _ in LAWS:
        group = identified_group(pa.LinearFactorModel(9, latents, prior=law))
        W = normal(9, latents, seed=3)
        A = group.rotations(W + 0.1 * normal(1, 3, 9, latents, seed=4))[0, 0]
        assert torch.allclose(W @ A @ group.onto(W @ A, W), W, rtol=0, atol=1e-12)


def test_a_law_without_a_known_group_is_refused():
    class Joint(priors.Prior):
        event_dim = 1

        def coordinates(self, latents):
            return None

    with pytest.raises(NotExactError, match=r"not known in closed form: pass a method"):
        identified_group(pa.LinearFactorModel(9, 2, prior=Joint()))


def test_spread_is_the_standard_deviation():
    assert spread_of(priors.Scaled(FIVE, 2.5)) == pytest.approx(2.5, rel=1e-12)
