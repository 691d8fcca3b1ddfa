# SPDX-License-Identifier: MIT
"""The admin listener: what Prometheus reads, what the page shows, who is let in, and that none of it needs the workers."""
import ctypes
import json
import os
import socket

import pytest

from admin import Admin
from openai_api import CHAT
from process import LIBC, free_port, run
from rawhttp import post, request
from upstream import Gate, says
from waiting import LIMIT, poll

HELD = 60
MEANT = ("X-Thaw-Admin", "1")


def held_by(gate):
    def script(x):
        x.wait(gate, 3 * LIMIT)
        says(b"{}")(x)
    return script


@pytest.fixture
def start(world):
    """start(script, more of the configuration): (upstream, gateway, admin)"""
    def serve(script=None, more="", **options):
        port = free_port()
        up = world.upstream(script)
        gw = world.serve(config=f"upstreams:\n  up: {{url: '{up.url}'{options.pop('upstream', '')}}}\n{more}", admin=port,
                         **options)
        return up, gw, Admin(world, port)
    return serve


def hold(world, gw, up, n):
    clients = [world.connect(gw) for _ in range(n)]
    for client in clients:
        client.send(post(CHAT, b'{"model":"m"}'))
    up.board.wait(lambda: len(up.requests) >= n, f"{n} calls at the upstream")
    return clients


def test_metrics_are_what_prometheus_reads(world, start):
    up, gw, admin = start()
    client = world.connect(gw)
    for _ in range(3):
        client.ask(post(CHAT, b'{"model":"m"}'))
    assert client.ask(post(CHAT, b'{"model"')).status == 400
    poll(lambda: admin.state()["outcomes"]["REFUSED"] == 1, "the last one to be counted: its answer left before")
    metrics = admin.metrics()
    outcome = metrics["thaw_outcomes"]
    assert outcome[("thaw_outcomes_total", ("outcome", "COMPLETE"))] == 3
    assert outcome[("thaw_outcomes_total", ("outcome", "REFUSED"))] == 1
    assert metrics["thaw_attempts"][("thaw_attempts_total", ("upstream", "up"))] == 3
    assert metrics["thaw_bytes"][("thaw_bytes_total", ("direction", "in"))] == 3 * 13 + 8
    assert metrics["thaw_loop_lag_seconds"].keys() == {("thaw_loop_lag_seconds", ("worker", "0"))}
    assert metrics["thaw_breaker_state"][("thaw_breaker_state", ("upstream", "up"))] == 0
    assert metrics["thaw_config_generation"] == {("thaw_config_generation",): 1}
    for name in ("gen_ai_server_request_duration_seconds", "gen_ai_server_time_to_first_token_seconds"):
        assert metrics[name][(f"{name}_count", ("upstream", "up"))] == 3
    overhead = metrics["thaw_overhead_seconds"]
    for stage in ("before", "after"):
        buckets = [value for key, value in overhead.items() if key[0].endswith("_bucket") and ("stage", stage) in key]
        assert buckets == sorted(buckets) and buckets[-1] == overhead[("thaw_overhead_seconds_count", ("stage", stage))] == 1
    assert metrics["process_resident_memory_bytes"][("process_resident_memory_bytes",)] > 1 << 20
    assert metrics["process_open_fds"][("process_open_fds",)] >= gw.descriptors() - 2
    assert metrics["process_threads"][("process_threads",)] == gw.status("Threads")


def test_a_name_of_any_characters_is_a_label(world):
    port = free_port()
    up = world.upstream()
    name = 'a "quoted" \\ name, {of} all kinds'
    world.serve(config=f"upstreams:\n  {json.dumps(name)}: {{url: '{up.url}'}}\n", admin=port)
    admin = Admin(world, port)
    assert admin.metrics()["thaw_attempts"] == {("thaw_attempts_total", ("upstream", name)): 0}
    assert admin.state()["upstreams"][0]["name"] == name


@pytest.mark.threads
def test_held_calls_are_seen_while_they_are_held(world, start):
    gate = Gate()
    up, gw, admin = start(held_by(gate), workers=2)
    clients = hold(world, gw, up, HELD)
    metrics = admin.metrics()
    assert metrics["thaw_in_flight"][("thaw_in_flight",)] == HELD
    assert metrics["thaw_connections"][("thaw_connections",)] == HELD
    assert metrics["thaw_upstream_in_flight"][("thaw_upstream_in_flight", ("upstream", "up"))] == HELD
    state = admin.state()
    assert state["in_flight"] == sum(w["in_flight"] for w in state["workers"]) == HELD
    assert admin.ask("/readyz").status == admin.ask("/healthz").status == 200
    gate.open()
    for client in clients:
        assert client.read("POST").status == 200
    poll(lambda: admin.state()["in_flight"] == 0, "nothing to be in flight")


def test_what_waits_is_seen(world, start):
    gate = Gate()
    up, gw, admin = start(held_by(gate), upstream=", max_in_flight: 2")
    clients = hold(world, gw, up, 2)
    for _ in range(3):
        clients.append(world.connect(gw))
        clients[-1].send(post(CHAT, b'{"model":"m"}'))
    poll(lambda: admin.state()["queued"] == 3, lambda: f"three calls to wait: {admin.state()}")
    metrics = admin.metrics()
    assert metrics["thaw_queued"][("thaw_queued", ("upstream", "up"))] == 3
    assert metrics["thaw_upstream_limit"][("thaw_upstream_limit", ("upstream", "up"))] == 2
    poll(lambda: admin.state()["oldest_queued_ms"] > 0, "the oldest to have waited")
    gate.open()
    for client in clients:
        assert client.read("POST").status == 200


class Stopped:
    """A thread that a debugger holds: the process' first one, which is the only worker's."""
    SEIZE, INTERRUPT, DETACH = 0x4206, 0x4207, 17

    def __init__(self, pid):
        self.pid = pid

    def trace(self, what):
        assert LIBC.ptrace(*map(ctypes.c_long, (what, self.pid, 0, 0))) == 0, os.strerror(ctypes.get_errno())

    def state(self):
        with open(f"/proc/{self.pid}/task/{self.pid}/stat") as file:
            return file.read().rsplit(")", 1)[1].split()[0]

    def __enter__(self):
        self.trace(self.SEIZE)
        self.trace(self.INTERRUPT)
        poll(lambda: self.state() == "t", "the thread to stop")
        os.waitid(os.P_PID, self.pid, os.WSTOPPED)

    def __exit__(self, *_):
        self.trace(self.DETACH)


def test_it_answers_while_no_worker_does(world, start):
    up, gw, admin = start()
    client = world.connect(gw)
    assert client.ask(post(CHAT, b'{"model":"m"}')).status == 200
    with Stopped(gw.pid):
        client.send(post(CHAT, b'{"model":"m"}'))
        for path in ("/healthz", "/readyz", "/metrics", "/admin/state", "/ui"):
            assert admin.ask(path).status == 200
        assert len(up.requests) == 1
    assert client.read("POST").status == 200


# --- who is let in -----------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("host", ["evil.test", "evil.test:8081", "localhost.evil.test", "127.0.0.1.evil.test", ""])
def test_a_name_that_could_be_anybodys_is_refused(start, host):
    _, _, admin = start()
    for path in ("/metrics", "/admin/state", "/ui", "/nothing"):
        assert admin.ask(path, host=host).status in ((400, 403) if not host else (403,))


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "LOCALHOST:1", "[::1]:8081", "10.1.2.3:80"])
def test_an_address_is_nobodys_name(start, host):
    _, _, admin = start()
    assert admin.ask("/healthz", host=host).status == 200


FOREIGN = [[("Origin", "http://evil.test")], [("Origin", "null")], [("Sec-Fetch-Site", "cross-site")],
           [("Sec-Fetch-Site", "same-site")]]


@pytest.mark.parametrize("fields", FOREIGN)
def test_pages_of_other_origins_get_nothing(start, fields):
    _, gw, admin = start()
    assert admin.ask("/admin/state", fields).status == 403
    assert admin.ask("/admin/drain", [*fields, MEANT], "POST").status == 403
    assert admin.ask("/readyz").status == 200


def test_no_page_can_have_sent_a_post_that_is_taken(start):
    _, gw, admin = start()
    for fields in ([], [("Content-Type", "text/plain")], [("Content-Type", "application/x-www-form-urlencoded")],
                   [("X-Thaw-Admin", "0")]):
        assert admin.ask("/admin/drain", fields, "POST", body=b"").status == 403
    assert admin.ask("/admin/drain").status == 405
    preflight = admin.ask("/admin/drain", [("Origin", "http://evil.test"), ("Access-Control-Request-Method", "POST")],
                          "OPTIONS")
    assert preflight.status == 403 and "access-control-allow-origin" not in preflight.fields
    assert admin.ask("/readyz").status == 200


def test_nothing_may_be_framed_cached_or_loaded_elsewhere(start):
    _, _, admin = start()
    for path in ("/ui", "/metrics", "/nothing"):
        answer = admin.ask(path)
        assert "default-src 'none'" in answer["content-security-policy"]
        assert "frame-ancestors 'none'" in answer["content-security-policy"]
        assert answer["cache-control"] == "no-store" and answer["x-content-type-options"] == "nosniff"
        assert answer["cross-origin-resource-policy"] == "same-origin"
        assert not any(name.lower().startswith("access-control") for name, _ in answer.fields)


def test_beyond_loopback_a_key_is_needed(world):
    port = free_port()
    up = world.upstream()
    world.serve(config=f"""
        admin: 0.0.0.0:{port}
        keys: [canary-admin-key]
        clients: {{them: {{keys: [canary-client-key]}}}}
        upstreams: {{up: {{url: '{up.url}'}}}}
        """, admin=None)
    admin = Admin(world, port)
    key = [("Authorization", "Bearer canary-admin-key")]
    for path in ("/metrics", "/admin/state"):
        refused = admin.ask(path)
        assert refused.status == 401 and refused["www-authenticate"] == "Bearer"
        assert refused.error()["code"] == "invalid_api_key"
        assert admin.ask(path, [("Authorization", "Bearer wrong")]).status == 401
        assert admin.ask(path, [("Authorization", "Bearer canary-client-key")]).status == 401
        assert admin.ask(path, key, host="thaw.test").status == 200
    assert admin.ask("/admin/drain", [MEANT], "POST").status == 401
    assert admin.ask("/healthz").status == admin.ask("/ui").status == 200


# --- what can be asked for ---------------------------------------------------------------------------------------------

def test_draining_finishes_what_runs_and_ends(world, start):
    gate = Gate()
    up, gw, admin = start(held_by(gate), workers=2)
    client, = hold(world, gw, up, 1)
    for _ in range(3):
        assert admin.ask("/admin/drain", [MEANT], "POST").status == 202
    poll(lambda: admin.ask("/readyz").status == 503, "the gateway to be not ready")
    assert admin.state()["draining"] is True
    gate.open()
    assert client.read("POST").status == 200
    assert gw.wait_end() == 0
    gw.judged = True


def test_json_is_as_good_as_the_field(start):
    _, gw, admin = start()
    assert admin.ask("/admin/drain", [("Content-Type", "application/json")], "POST", body=b"{}").status == 202
    assert gw.wait_end() == 0
    gw.judged = True


def test_an_unknown_path_names_those_there_are(start):
    _, _, admin = start()
    answer = admin.ask("/metric")
    assert answer.status == 404 and "/metrics" in answer.error()["message"]


# --- its address -------------------------------------------------------------------------------------------------------

def test_an_address_that_was_asked_for_must_be_had(world):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        done = run("serve", "--mock", "--listen", f"127.0.0.1:{free_port()}", "--admin", f"127.0.0.1:{port}")
    assert done.code == 3 and str(port) in done.err and "in use" in done.err and "--admin" in done.err


def test_without_the_default_address_it_goes_on(world):
    with socket.socket() as taken:
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            taken.bind(("127.0.0.1", 8081))
            taken.listen()
        except OSError:
            pass  # somebody else has it, which is as good
        up = world.upstream()
        gw = world.serve(up, admin=None)
        gw.wait_text(r"127\.0\.0\.1:8081 is in use")
        assert world.connect(gw).ask(post(CHAT, b'{"model":"m"}')).status == 200


def test_it_can_be_off(world):
    gw = world.serve(world.upstream())
    assert "metrics" not in gw.text


# --- the page ----------------------------------------------------------------------------------------------------------

def test_the_page_shows_what_happens(world, start, tab):
    gate = Gate()
    up, gw, admin = start(held_by(gate))
    hold(world, gw, up, 5)
    page = tab(f"http://127.0.0.1:{admin.port}/ui", width=1000, height=800)
    tile = "[...document.querySelectorAll('#now div')].find(d => d.firstChild.textContent === '%s').lastChild.textContent"
    page.wait(f"document.querySelector('#now div') && {tile % 'in flight'} === '5'")
    assert page.text("#status") == "running"
    assert page.js("document.querySelector('#upstreams td').textContent") == "up"
    gate.open()
    page.wait(f"{tile % 'in flight'} === '0'")
    page.wait("document.querySelector('#outcomes').innerText.includes('COMPLETE')")
    assert not page.problems, page.problems


def test_the_page_asks_for_a_key_where_one_is_needed(world, tab):
    port = free_port()
    up = world.upstream()
    world.serve(config=f"admin: 0.0.0.0:{port}\nkeys: [canary-key]\nupstreams: {{up: {{url: '{up.url}'}}}}\n", admin=None)
    page = tab(f"http://127.0.0.1:{port}/ui")
    page.wait("!document.querySelector('#ask').hidden")
    page.js("document.querySelector('#key').value = 'canary-key', document.querySelector('#ask').requestSubmit()")
    page.wait("document.querySelector('#status').textContent === 'running'")
    assert page.js("document.querySelector('#ask').hidden")
    assert not page.problems, page.problems


def test_what_an_upstream_is_called_stays_text(world, tab):
    """A configuration's names are not trusted by the page either."""
    port = free_port()
    up = world.upstream()
    name = "<img src=x onerror=alert(1)>"
    world.serve(config=f"upstreams:\n  {json.dumps(name)}: {{url: '{up.url}'}}\n", admin=port)
    page = tab(f"http://127.0.0.1:{port}/ui")
    page.wait("!!document.querySelector('#upstreams td')")
    assert page.text("#upstreams td") == name
    assert page.js("document.querySelector('#upstreams img')") is None
