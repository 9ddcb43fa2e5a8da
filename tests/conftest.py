"""What holds for every test: one thread, a fixed seed, no network, no window, a clean Pyro store."""

import ipaddress
import os
import random
import socket
import sys
from pathlib import Path

os.environ["MPLBACKEND"] = "Agg"  # before anything imports matplotlib

import jaxtyping
import numpy as np
import pytest
import torch
from jaxtyping import install_import_hook
from threadpoolctl import threadpool_limits

# Types and array shapes are checked at every call while testing, and at no other time.
sys.path.insert(0, str(Path(__file__).parent))
import typechecking

sys.path.pop(0)
jaxtyping.jaxtyped = typechecking.sparing(jaxtyping.jaxtyped)
install_import_hook("probae", f"{typechecking.__name__}.checked")

# Sums are split over threads in different orders, so bits are comparable only on one thread.
torch.set_num_threads(1)
ONE_THREAD = threadpool_limits(limits=1)  # numpy and scipy; held here for the whole session


@pytest.fixture(autouse=True)
def seeded():
    """Start every test from the same state of each random generator, so that order does not matter."""
    torch.manual_seed(0)
    np.random.seed(0)  # noqa: NPY002 - the state a careless library would read
    random.seed(0)


def is_local(family, address):
    """Whether a socket address stays on this machine."""
    if family not in (socket.AF_INET, socket.AF_INET6):
        return True
    host = address[0]
    if host in ("", "localhost"):
        return True
    try:
        return ipaddress.ip_address(host.partition("%")[0]).is_loopback
    except ValueError:
        return False


@pytest.fixture(autouse=True)
def offline(monkeypatch):
    """Refuse every connection that leaves this machine."""

    def guard(name):
        original = getattr(socket.socket, name)

        def guarded(self, *arguments):
            address = arguments[-1]
            if not is_local(self.family, address):
                raise OSError(f"the tests run offline, but something called socket.{name}({address!r}).")
            return original(self, *arguments)

        return guarded

    for name in ("connect", "connect_ex", "sendto"):
        monkeypatch.setattr(socket.socket, name, guard(name))


def clear_store():
    """Empty Pyro's global parameter store and return the names that were in it."""
    if "pyro" not in sys.modules:
        return []
    store = sys.modules["pyro"].get_param_store()
    left = sorted(store.keys())
    store.clear()
    return left


@pytest.fixture(autouse=True)
def empty_store():
    """Fail a test that leaves parameters in Pyro's global store, where the next model would find them."""
    yield
    left = clear_store()
    assert not left, f"left in Pyro's global parameter store: {left}"


@pytest.fixture
def random_state():
    """Return a function that reads the state of the torch, numpy and Python generators, to compare by ==."""

    def read():
        name, keys, *rest = np.random.get_state()  # noqa: NPY002
        return torch.get_rng_state().numpy().tobytes(), (name, keys.tobytes(), *rest), random.getstate()

    return read
