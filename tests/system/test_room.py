# SPDX-License-Identifier: MIT
"""More clients than there are descriptors for: who only waits gives way, the rest waits in the backlog without costing
anything, and when there is room again everything goes on by itself."""
import contextlib
import os
import resource
import socket
import time

import pytest

from openai_api import CHAT
from rawhttp import post, request
from waiting import LIMIT, poll

FILES = 256
CLIENTS = 1000


def chat(model):
    return {"model": model, "messages": [{"role": "user", "content": "hello"}]}


def few_files():
    resource.setrlimit(resource.RLIMIT_NOFILE, (FILES, FILES))


@pytest.fixture(autouse=True)
def many_files():
    """For the test itself."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(4096, before[1]), before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, before)


@pytest.fixture
def crowd():
    """crowd(gateway, n, bytes): n connections that say this and nothing more."""
    with contextlib.ExitStack() as stack:
        def come(gw, n, says=b""):
            clients = []
            for _ in range(n):
                client = stack.enter_context(socket.create_connection((gw.host, gw.port), LIMIT))
                client.sendall(says)
                clients.append(client)
            return clients
        yield come


def cpu_s(gw):
    fields = open(f"/proc/{gw.pid}/stat").read().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def is_at_rest(gw, seconds=1.0):
    """It does next to nothing: a loop that spins takes all the time there is, if it gets any."""
    used = cpu_s(gw)
    time.sleep(seconds)
    return cpu_s(gw) - used < 0.2 * seconds


def healthy(world, gw):
    return world.connect(gw).ask(request("GET", "/healthz")).status == 200


def test_silent_clients_give_way_to_those_who_ask(world, crowd):
    gw = world.serve(None, "--mock", before=few_files)
    crowd(gw, CLIENTS)
    assert healthy(world, gw)
    answer = world.connect(gw).ask(post(CHAT, chat("mock-5ms")))
    assert answer.status == 200
    assert gw.descriptors() <= FILES
    assert is_at_rest(gw)


def test_clients_beyond_the_descriptors_wait_and_get_their_turn(world, crowd):
    gw = world.serve(None, "--mock", before=few_files)
    quiet = gw.descriptors()
    running = crowd(gw, CLIENTS, post(CHAT, chat("mock-600s")))
    poll(lambda: gw.descriptors() >= (FILES - 64) / 2, lambda: f"the calls to run; {gw.descriptors()} descriptors")
    assert is_at_rest(gw)
    assert gw.descriptors() <= FILES / 2 + 32  # the other half is for the calls' own connections
    for client in running:
        client.close()
    assert healthy(world, gw)
    gw.settles_at(quiet + 1)  # the one that has just asked


def test_calls_that_share_connections_leave_the_descriptors_to_clients(world, crowd):
    gw = world.serve(config="upstreams: {up: {url: mock, http: 2}}\n", before=few_files)
    crowd(gw, CLIENTS, post(CHAT, chat("mock-600s")))
    poll(lambda: gw.descriptors() >= 3 / 4 * FILES, lambda: f"the calls to run; {gw.descriptors()} descriptors")
    assert is_at_rest(gw)
    assert gw.descriptors() <= FILES


def test_who_comes_when_it_is_nearly_full_is_served(world, crowd):
    """He is idle himself until his request is there."""
    gw = world.serve(config="upstreams: {up: {url: mock}}\nmax_connections: 40\n")
    crowd(gw, 38, post(CHAT, chat("mock-600s")))
    poll(lambda: gw.descriptors() > 38, "the calls to run")
    for _ in range(100):
        client = world.connect(gw)
        assert client.ask(request("GET", "/healthz", [("Connection", "close")])).status == 200
        client.close()


def test_out_of_descriptors_closes_idle_connections_and_goes_on(world, crowd):
    mock = world.mock()
    gw = world.serve(f"{mock.url}/v1")
    idle = [world.connect(gw) for _ in range(8)]
    for client in idle:
        assert client.ask(request("GET", "/healthz")).status == 200
    # As if something else had taken all others: there is not one more to be had.
    full = gw.descriptors()
    resource.prlimit(gw.pid, resource.RLIMIT_NOFILE, (full, full))
    answer = idle[-1].ask(post(CHAT, chat("mock-5ms")))  # has to be dialled for
    assert answer.status == 200, answer
    assert healthy(world, gw)
    crowd(gw, 200)
    assert healthy(world, gw)
    assert is_at_rest(gw)
    assert gw.descriptors() <= full
