"""The contractive classifier: its formulas, its attacks against exact ones, and the direction of its answer."""

import itertools
import json
from dataclasses import replace

import pytest
import torch

from experiments import contractive_classifier as experiment

TINY = experiment.Settings(
    contractive=(1e-2, 1e-1),
    peers=(1e-3, 1e-2),
    bisections=1,
    eps=(0.1,),
    train=600,
    steps=60,
    attack_steps=5,
    repeats=1,
)


@pytest.fixture(scope="module")
def rows():
    return experiment.measure(TINY)


def linear(classes=4, features=6, count=300):
    generator = torch.Generator().manual_seed(0)
    net = torch.nn.Linear(features, classes, dtype=torch.float64).requires_grad_(False)
    net.weight.copy_(torch.randn(classes, features, generator=generator, dtype=torch.float64))
    net.bias.copy_(torch.randn(classes, generator=generator, dtype=torch.float64))
    x = torch.randn(count, features, generator=generator, dtype=torch.float64)
    y = torch.where(torch.rand(count, generator=generator) < 0.9, net(x).argmax(1), 0)
    return net, x, y


def network():
    generator = torch.Generator().manual_seed(0)
    x, y = torch.rand(20, 5, generator=generator), torch.arange(20) % 10
    return experiment.fitted(x, y, "none", 0.0, replace(TINY, hidden=7, steps=3), seed=0), x, y


@pytest.mark.parametrize("eps", [0.05, 0.1, 0.2])
def test_certificate_of_linear_logits_is_the_best_of_all_attacks(eps):
    net, x, y = linear()
    certified = experiment.linear_radius(net(x), net.weight, y) > eps
    corners = torch.tensor(list(itertools.product((-eps, eps), repeat=x.shape[1])), dtype=x.dtype)
    right = (net(x[:, None, :] + corners).argmax(-1) == y[:, None]).all(
        1
    )  # a linear margin is least at a corner
    assert 0.1 < certified.double().mean() < 0.9
    assert torch.equal(certified, right)


@pytest.mark.parametrize("steps", [1, 20])
def test_no_attack_breaks_a_certified_row(steps):
    net, x, y = linear()
    certified = experiment.linear_radius(net(x), net.weight, y) > 0.1
    moved = experiment.attacked(net, x, y, 0.1, steps)
    assert (moved - x).abs().max() <= 0.1 + 1e-12
    assert (net(moved).argmax(1) == y)[certified].all()


def test_one_step_is_the_best_attack_on_two_classes():
    net, x, y = linear(classes=2)
    certified = experiment.linear_radius(net(x), net.weight, y) > 0.1
    assert torch.equal(net(experiment.attacked(net, x, y, 0.1, 1)).argmax(1) == y, certified)


def test_jacobian_is_that_of_autograd():
    net, x, _ = network()
    right = torch.stack([torch.autograd.functional.jacobian(net, row) for row in x])
    # float32, sums of 35 products
    torch.testing.assert_close(experiment.jacobians(net, x), right, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(
        experiment.squared_jacobian(net, x), right.square().sum((1, 2)), rtol=1e-4, atol=1e-5
    )


def test_the_product_of_the_layers_bounds_the_whole():
    net, x, _ = network()
    first, second = experiment.layer_norms(net, x)
    hidden = torch.stack([torch.autograd.functional.jacobian(net[:2], row) for row in x])
    torch.testing.assert_close(first, hidden.square().sum((1, 2)), rtol=1e-4, atol=1e-5)
    assert (experiment.squared_jacobian(net, x) < first * second).all()


def test_a_stronger_penalty_leaves_a_smaller_jacobian(rows):
    norms = [row["|J|"] for row in rows["networks"] if row["penalty"] in ("none", "contractive")]
    assert len(norms) == 3
    assert norms == sorted(norms, reverse=True)


def test_a_peer_has_the_largest_strength_that_reaches_the_goal(monkeypatch):
    """On an accuracy that falls with the strength, as 1 - strength: halvings on logarithms come within their width."""
    monkeypatch.setattr(experiment, "fitted", lambda x, y, name, strength, settings, seed: strength)
    monkeypatch.setattr(experiment, "accuracy", lambda strength, x, y: 1 - strength)
    settings = replace(TINY, peers=(1e-3, 1e-2, 1e-1), bisections=5)
    found = experiment.matched(settings, "weight decay", 0.97, {})
    assert 0.03 / 10 ** (1 / 2**5) <= found <= 0.03
    assert experiment.matched(settings, "weight decay", 0.8, {}) == 1e-1
    assert experiment.matched(settings, "weight decay", 0.9999, {}) == 1e-3


def test_no_attack_passes_the_exact_accuracy_and_one_step_reaches_it_on_two_classes(rows):
    for row in rows["attacks on linear logits"]:
        assert min(row["FGSM"], row["PGD"]) >= row["exact"]
        if row["classes"] == 2:
            assert row["FGSM"] == row["exact"]


def test_contraction_helps_under_attack(rows):
    found = {(row["penalty"], row["strength"]): row["PGD 0.1"] for row in rows["networks"]}
    # 1,197 images: a standard error below .015 of each
    assert found["contractive", 1e-2] > found["none", 0.0] + 0.06


def test_results_are_written_whole(tmp_path):
    settings = replace(TINY, steps=2, output=tmp_path / "contractive_classifier")
    experiment.main(settings)
    assert {file.name for file in settings.output.iterdir()} == {"settings.json", "rows.json", "figure.png"}
    assert set(json.loads((settings.output / "rows.json").read_text("utf-8"))) == {
        "attacks on linear logits",
        "networks",
        "contractive above its peers",
    }
