# SPDX-License-Identifier: MIT
"""What systemd hears (sd_notify(3)), on a datagram socket of this test's."""
import os
import re
import signal
import socket
import time

import pytest

from openai_api import CHAT, CHAT_REQUEST
from rawhttp import post
from upstream import Gate
from waiting import LIMIT


class Systemd:
    def __init__(self, address):
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.sock.bind(address.replace("@", "\0", 1) if address.startswith("@") else address)
        self.sock.settimeout(LIMIT)
        self.env = {"NOTIFY_SOCKET": address}
        self.heard = []

    def hear(self):
        message = dict(line.split("=", 1) for line in self.sock.recv(4096).decode().splitlines())
        self.heard.append(message)
        return message

    def hear_until(self, name):
        while True:
            message = self.hear()
            if name in message:
                return message

    def nothing_more(self):
        self.sock.setblocking(False)
        with pytest.raises(BlockingIOError):
            print(self.hear())

    def close(self):
        self.sock.close()


@pytest.fixture(params=["path", "abstract"])
def systemd(request, world):
    address = str(world.folder / "notify") if request.param == "path" else f"@thaw-test-{os.getpid()}-{time.time_ns()}"
    it = Systemd(address)
    world.other.append(it)
    return it


def test_ready_reloading_and_stopping(world, systemd):
    path = world.config("upstreams: {up: {url: mock}}\n")
    gw = world.serve(None, "--config", path, env=systemd.env)
    ready = systemd.hear()
    assert ready["READY"] == "1" and str(gw.port) in ready["STATUS"]

    before = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
    gw.signal(signal.SIGHUP)
    reloading = systemd.hear()
    assert reloading["RELOADING"] == "1"
    assert before <= int(reloading["MONOTONIC_USEC"]) <= time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
    assert systemd.hear()["READY"] == "1"

    path.write_text("upstrems: {}\n")
    gw.wait_text("refused")
    gw.signal(signal.SIGHUP)  # one that is refused ends as well
    assert systemd.hear_until("RELOADING") and systemd.hear_until("READY")

    gw.signal(signal.SIGTERM)
    assert systemd.hear()["STOPPING"] == "1"
    assert gw.wait_end() == 0
    systemd.nothing_more()
    gw.judged = True


def test_a_start_that_fails_is_never_ready(world, systemd):
    gw = world.serve(None, "--mock", "--store", "sqlite:///nonexistent/folder/thaw.db", env=systemd.env, ready=False)
    assert gw.wait_end() != 0
    systemd.nothing_more()
    gw.judged = True


def test_the_watchdog_is_fed_while_the_workers_turn(world, systemd):
    gw = world.serve(None, "--mock", workers=2, env={**systemd.env, "WATCHDOG_USEC": "200000"})
    for _ in range(5):
        assert systemd.hear_until("WATCHDOG")["WATCHDOG"] == "1"
    gw.freeze()  # nobody turns
    systemd.sock.setblocking(False)
    try:
        while True:
            systemd.hear()
    except BlockingIOError:
        systemd.sock.settimeout(LIMIT)
    gw.thaw()
    assert systemd.hear_until("WATCHDOG")


def test_a_watchdog_for_another_process_is_not_fed(world, systemd):
    gw = world.serve(None, "--mock", env={**systemd.env, "WATCHDOG_USEC": "1000", "WATCHDOG_PID": "1"})
    assert systemd.hear()["READY"] == "1"
    gw.signal(signal.SIGTERM)
    assert systemd.hear()["STOPPING"] == "1"
    assert gw.wait_end() == 0
    gw.judged = True


def test_an_upgrade_makes_the_new_process_the_main_one(world, systemd):
    gate = Gate()
    up = world.upstream(lambda x: x.wait(gate))
    gw = world.serve(up, env={**systemd.env, "WATCHDOG_USEC": "60000000", "WATCHDOG_PID": ""})
    client = world.connect(gw)
    client.send(post(CHAT, CHAT_REQUEST))
    up.wait(lambda: len(up.requests) == 1, "the call")
    first = gw.pid
    old = gw.upgrade()
    main = systemd.hear_until("MAINPID")
    assert int(main["MAINPID"]) == gw.pid != first
    assert old.poll() is None
    gate.open()
    client.close()
    assert old.wait(LIMIT) == 0
    gw.signal(signal.SIGTERM)
    assert systemd.hear_until("STOPPING")
    assert gw.wait_end() == 0
    # The old one's leaving is not the service's: one STOPPING, and a READY of each.
    assert sum("STOPPING" in m for m in systemd.heard) == 1
    assert sum("READY" in m for m in systemd.heard) == 2, systemd.heard
    assert re.search(r"the new thaw serves", gw.text)
    gw.judged = True
