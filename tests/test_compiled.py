"""Compiled results on disk: taken while their sources stay, and made anew when any of them changes."""

import importlib.util
import os
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
