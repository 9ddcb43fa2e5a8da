"""Compiled results on disk: taken while their sources stay, and made anew when any of them changes."""

import importlib.util
import os
import subprocess
import sys

import pytest

INNER = """
from probae.compiled import compile_cached

def step(x):
    return x + {number}

step = compile_cached(step, {{}})
"""
OUTER = """
from inner import step
from probae.compiled import compile_cached

def walk(x):
    return step(step(x))

walk = compile_cached(walk, {{}}, {signatures})
"""


@pytest.fixture
def load(tmp_path, monkeypatch):
    """Write a module that calls another one, with a number in it, and import both anew."""
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)

    def written(name, text):
        path = tmp_path / f"{name}.py"
        if not path.exists() or path.read_text() != text:
            path.write_text(text)
        os.utime(path, (0, 0))  # as an installer leaves them that keeps times
        spec = importlib.util.spec_from_file_location(name, path)
        module = importlib.util.module_from_spec(spec)
        monkeypatch.setitem(sys.modules, name, module)
        spec.loader.exec_module(module)
        return module

    def both(number, signatures):
        written("inner", INNER.format(number=number))
        return written("outer", OUTER.format(signatures=signatures)).walk

    return both


@pytest.mark.parametrize("signatures", [None, ["(float64,)"]])
def test_a_change_of_a_file_below_is_seen(load, signatures):
    first = load(1.0, signatures)
    assert first(0.0) == 2.0
    again = load(1.0, signatures)
    assert again(0.0) == 2.0
    assert sum(again.stats.cache_hits.values()) == 1
    changed = load(2.0, signatures)  # another file of the same size and time
    assert changed(0.0) == 4.0
    assert not changed.stats.cache_hits


FITS = """
import torch
import probae as pa

torch.set_num_threads(1)
x = pa.datasets.linear_factors(60, 4, 2, prior=pa.priors.Laplace(), seed=0).x
independent = pa.LinearFactorModel(4, 2, pa.priors.Laplace())
for model, method in (
    (pa.FactorAnalysis(4, 1), pa.Gibbs(draws=50, warmup=50)),
    (pa.FactorAnalysis(4, 1), pa.NUTS(draws=50, warmup=50)),
    (independent, pa.MaximumLikelihood()),
    (pa.SparseCoding(4, 2), pa.MAP(steps=4)),
):
    run = pa.fit(model, x, method, seed=0)
    print(method, [value.hex() for value in run.model.loadings.detach().flatten().tolist()])
"""


@pytest.mark.slow
def test_a_result_from_disk_counts_as_the_one_just_compiled(tmp_path):
    """Not so where a function has two compiled forms, its own and that within its caller: which one runs varies."""
    said = [
        subprocess.run(
            [sys.executable, "-W", "ignore", "-c", FITS],
            capture_output=True,
            text=True,
            env=os.environ | {"NUMBA_CACHE_DIR": str(tmp_path), "OMP_NUM_THREADS": "1"},
            check=True,
        ).stdout
        for _ in range(2)
    ]
    assert said[0].count("0x") == 4 + 4 + 8 + 8
    assert said[0] == said[1]
