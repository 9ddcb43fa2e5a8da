"""The guards of conftest.py do guard."""

import random
import socket
import sys
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import jaxtyping
import numpy as np
import pyro
import pytest
import torch
from jaxtyping import Float, TypeCheckError
from torch import Tensor

from probae.checks import check_count
from probae.factors.satorra_bentler import trace_of_baseline
from probae.linalg import givens


def test_connections_that_leave_the_machine_are_refused():
    with socket.socket() as outside, pytest.raises(OSError, match="offline"):
        outside.connect(("192.0.2.1", 80))  # a documentation address: it routes nowhere
    with socket.socket() as named, pytest.raises(OSError, match="offline"):
        named.connect(("example.org", 80))
    with socket.socket(type=socket.SOCK_DGRAM) as datagram, pytest.raises(OSError, match="offline"):
        datagram.sendto(b"", ("192.0.2.1", 80))


def test_loopback_connections_work():
    with socket.create_server(("127.0.0.1", 0)) as server:
        client = socket.create_connection(server.getsockname())
        accepted, _ = server.accept()
        with client, accepted:
            client.sendall(b"here")
            assert accepted.recv(4) == b"here"


@pytest.mark.parametrize("draw", [lambda: torch.rand(1), lambda: np.random.rand(), random.random])  # noqa: NPY002
def test_random_state_notices_one_draw(random_state, draw):
    before = random_state()
    assert random_state() == before
    draw()
    assert random_state() != before


def test_one_thread():
    assert torch.get_num_threads() == 1


def test_a_parameter_left_in_the_global_store_is_found(request):
    conftest = request.config.pluginmanager.get_plugin(str(Path(__file__).with_name("conftest.py")))
    assert conftest.clear_store() == []
    pyro.param("forgotten", torch.ones(()))
    assert conftest.clear_store() == ["forgotten"]
    assert conftest.clear_store() == []


def test_arrays_are_checked_against_their_hints():
    assert givens(2, 0, 1, torch.ones(2)).shape == (2, 2, 2)
    with pytest.raises(TypeCheckError, match="theta"):
        givens(2, 0, 1, torch.ones(2, dtype=torch.int64))


def test_functions_without_arrays_are_left_as_they_are():
    """A check of nothing costs more than many a short function; arrays behind a name of their own are arrays."""
    assert not hasattr(check_count, "__wrapped__")
    assert hasattr(givens, "__wrapped__")
    with pytest.raises(TypeCheckError, match="trace_of_baseline"):
        trace_of_baseline(torch.ones(2, dtype=torch.int64), None, True)


def test_results_are_checked_with_the_sizes_of_the_arguments():
    @jaxtyping.jaxtyped(typechecker=sys.modules["typechecking"].checked)
    def cut(x: Float[Tensor, "rows columns"], rows: int) -> Float[Tensor, "rows columns"]:
        return x[:rows]

    for _ in range(2):  # what has passed is not looked at again, and what has not is
        assert cut(torch.ones(3, 2), 3).shape == (3, 2)
        with pytest.raises(TypeCheckError, match="return value"):
            cut(torch.ones(3, 2), 2)
        with pytest.raises(TypeCheckError, match="parameters"):
            cut(torch.ones(3, 2, dtype=torch.int64), 3)


def test_arrays_inside_other_values_are_checked_at_every_call():
    @jaxtyping.jaxtyped(typechecker=sys.modules["typechecking"].checked)
    def count(
        one: Float[Tensor, " rows"] | None = None, *, many: Sequence[Float[Tensor, " rows"]] = ()
    ) -> int:
        return len(many)

    for _ in range(2):
        assert count() == 0
        assert count(None) == 0
        assert count(torch.ones(2), many=[torch.ones(2)]) == 1
        with pytest.raises(TypeCheckError):
            count(torch.ones(3), many=[torch.ones(2)])
        with pytest.raises(TypeCheckError):
            count(torch.ones(2), many=deque([torch.ones(3)]))


def test_arrays_of_a_dataclass_are_checked():
    decorate = jaxtyping.jaxtyped(typechecker=sys.modules["typechecking"].checked)

    @decorate
    @dataclass
    class Pair:
        one: Float[Tensor, " rows"]
        two: Float[Tensor, " rows"]

    for _ in range(2):
        assert Pair(torch.ones(2), torch.ones(2)).two.shape == (2,)
        with pytest.raises(TypeCheckError):
            Pair(torch.ones(2), torch.ones(3))
