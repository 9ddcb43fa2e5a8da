"""The guards of conftest.py do guard."""

import random
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch


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


LEAKY = """
import pyro
import torch


def test_leaves_a_parameter():
    pyro.param("forgotten", torch.ones(()))


def test_finds_a_clean_store():
    assert not list(pyro.get_param_store().keys())
"""


def test_a_parameter_left_in_the_global_store_is_reported(tmp_path):
    for name in ("conftest.py", "typechecking.py"):
        shutil.copy(Path(__file__).with_name(name), tmp_path)
    (tmp_path / "test_leaky.py").write_text(LEAKY)
    (tmp_path / "pytest.ini").write_text("[pytest]\n")
    command = [sys.executable, "-m", "pytest", "-q", str(tmp_path)]
    run = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    assert "left in Pyro's global parameter store: ['forgotten']" in run.stdout
    assert "2 passed, 1 error" in run.stdout  # the second test starts from an empty store again
