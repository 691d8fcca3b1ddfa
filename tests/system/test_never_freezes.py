# SPDX-License-Identifier: MIT
"""What the name promises, with real clients, real sockets and the whole binary: nobody waits for somebody else's calls
without being told, who leaves makes room, and an upstream that fails is not flooded by tries.

No test measures time: shares are counted in turns, waiting in places, storms in calls."""
import collections
import concurrent.futures
import json
import re
import resource

import pytest

from admin import Admin
from openai_api import CHAT, STREAM
from process import free_port
from rawhttp import post, request
from upstream import Gate, says, streams
from waiting import LIMIT, poll

HOG, OTHERS, SEATS = 1000, 9, 5
USERS, POOL = 50, 6
LEAVING, TURNS = 4, 50
STORM = 400


@pytest.fixture(autouse=True)
def many_files():
    """For the test itself and what it starts."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(8192, before[1]), before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, before)


@pytest.fixture
def start(world):
    """start(configuration): a gateway and its admin."""
    def serve(config, **more):
        port = free_port()
        return world.serve(config=config, admin=port, **more), Admin(world, port)
    return serve


def chat(model="m", text="hello", **more):
    return {"model": model, "messages": [{"role": "user", "content": text}], **more}


def bearer(key):
    return ("Authorization", f"Bearer {key}")


def wait_queued(admin, count):
    poll(lambda: admin.state()["queued"] == count, lambda: f"{count} calls to wait; {admin.state()['queued']} do")


def ask_all(clients, workers=40):
    """Their answers, read at the same time."""
    with concurrent.futures.ThreadPoolExecutor(workers) as pool:
        return list(pool.map(lambda client: client.read("POST"), clients))


# --- one hog, nine others ------------------------------------------------------------------------------------------------

class Turns:
    """An upstream whose calls end one by one, as the test says, and that knows whose each was."""

    def __init__(self, world):
        self.gates = collections.deque()
        self.served = []
        self.up = world.upstream(self.script)

    def script(self, x):
        gate = Gate()
        with self.up.board.changed:
            self.gates.append(gate)
            self.served.append(x.request.json()["user"])
            self.up.board.announce()
        x.wait(gate, 5 * LIMIT)
        says(b"{}")(x)

    def wait(self, count):
        self.up.wait(lambda: len(self.served) >= count, f"{count} calls at the upstream")

    def end_one(self):
        """And the place that it leaves is taken."""
        count = len(self.served)
        self.gates.popleft().open()
        self.wait(count + 1)


@pytest.mark.parametrize("length", [HOG, 2 * HOG], ids=["full", "with_room"])
def test_nine_do_not_wait_for_the_thousand_calls_of_a_hog(world, start, length):
    """Each of the nine begins within two services: SEATS run at once, so before 2 * SEATS calls have ended."""
    turns = Turns(world)
    keys = ["hog-canary", *(f"other-canary-{n}" for n in range(OTHERS))]
    gw, admin = start(f"""
        keys: [{', '.join(keys)}]
        upstreams: {{up: {{url: '{turns.up.url}', max_in_flight: {SEATS}}}}}
        queue: {{length: {length}, wait: 10m}}
        """)
    hog = [world.connect(gw) for _ in range(SEATS + HOG)]
    for client in hog:
        client.send(post(CHAT, chat(user="hog"), [bearer(keys[0])]))
    turns.wait(SEATS)
    wait_queued(admin, HOG)
    others = [world.connect(gw) for _ in range(OTHERS)]
    for n, client in enumerate(others):
        client.send(post(CHAT, chat(user=f"other-{n}"), [bearer(keys[1 + n])]))
    if length == HOG:  # each of them takes a place of the hog's
        poll(lambda: admin.state()["refused"]["queue_share"] == OTHERS, lambda: f"all to be there: {admin.state()}")
    else:
        wait_queued(admin, HOG + OTHERS)
    for _ in range(2 * SEATS):
        turns.end_one()
    begun = turns.served[SEATS:]
    assert {f"other-{n}" for n in range(OTHERS)} <= set(begun), begun
    assert "hog" in begun, "it has its turn in each round, too"
    told = [client.read("POST") for client in hog if not client.quiet()]
    pushed = [answer for answer in told if answer.status != 200]
    assert len(pushed) == (OTHERS if length == HOG else 0), "who comes has the hog's place in a full queue"
    for answer in pushed:
        assert answer.status == 429 and answer.error()["code"] == "queue_full" and int(answer["retry-after"]) >= 1, answer


# --- fifty users, six at once --------------------------------------------------------------------------------------------

PLACE = re.compile(rb": queued (\d+) of (\d+)\n")


def test_of_fifty_users_44_queue_in_order_and_are_told_their_place(world, start):
    mock = world.mock("--latency", "400ms", "--capacity", f"pool:{POOL}")
    gw, admin = start(f"upstreams: {{up: {{url: '{mock.url}/v1', max_in_flight: {POOL}}}}}\n")
    clients = [world.connect(gw) for _ in range(USERS)]
    for client in clients:  # taken in: those that were not would come in another order
        assert client.ask(request("GET", "/healthz")).status == 200
    gw.freeze()  # they come at once, in this order, however busy the machine is
    for n, client in enumerate(clients):
        client.send(post(CHAT, chat(f"m{n}", stream=True), [("X-Thaw-Progress", "1")]))
    gw.thaw()
    answers = ask_all(clients, USERS)
    assert all(answer.status == 200 and answer.body.endswith(b"data: [DONE]\n\n") for answer in answers)
    for n, answer in enumerate(answers):
        told = [(int(place), int(waiting)) for place, waiting in PLACE.findall(answer.body)]
        if n < POOL:
            assert not told, "there was a place for it"
            continue
        assert told and told[0] == (n - POOL + 1, n - POOL + 1), (n, told)
        places = [place for place, _ in told]
        assert places == sorted(places, reverse=True) and all(place <= waiting for place, waiting in told), told
        assert answer.body.startswith(b": queued "), "it hears of it before anything else"
    journal = bytes(world.connect(mock).ask(request("GET", "/mock/journal")).body).splitlines()[:-1]
    arrived = [json.loads(line)["model"] for line in journal]
    assert sorted(arrived[:POOL]) == sorted(f"m{n}" for n in range(POOL))
    # Places become free together, and those who get them race each other on connections of their own.
    for n, model in enumerate(arrived):
        assert abs(int(model[1:]) - n) < POOL, arrived
    assert admin.metrics()["thaw_upstream_limit"][("thaw_upstream_limit", ("upstream", "up"))] == POOL


def test_who_would_wait_too_long_is_told_at_once(world, start):
    gate = Gate()
    up = world.upstream(lambda x: (x.wait(gate), says(b"{}")(x)))
    gw, admin = start(f"upstreams: {{up: {{url: '{up.url}', max_in_flight: 1}}}}\nqueue: {{length: 2, wait: 10m}}\n")
    clients = [world.connect(gw) for _ in range(3)]
    for n, client in enumerate(clients):
        client.send(post(CHAT, chat()))
        poll(lambda n=n: admin.state()["in_flight"] == n + 1, "it to be there")
    answer = world.connect(gw).ask(post(CHAT, chat()))
    assert answer.status in (429, 503) and answer.error()["code"] == "queue_full"
    assert int(answer["retry-after"]) >= 1 and int(answer["retry-after-ms"]) >= 1000
    gate.open()
    assert [answer.status for answer in ask_all(clients)] == [200, 200, 200]


def test_who_has_no_key_is_known_by_his_address(world, start):
    gate = Gate()
    up = world.upstream(lambda x: (x.wait(gate), says(b"{}")(x)))
    gw, _ = start(f"upstreams: {{up: {{url: '{up.url}'}}}}\nlimits: {{in_flight: 1, requests_per_minute: 50}}\n")
    clients = [world.connect(gw, source=f"127.0.0.{n}") for n in (2, 3)]
    for client in clients:
        client.send(post(CHAT, chat()))
    up.wait_requests(2)
    answer = world.connect(gw, source="127.0.0.2").ask(post(CHAT, chat()))
    assert answer.status == 429 and answer.error()["code"] == "rate_limit_exceeded" and "in_flight" in answer.error()["message"]
    assert (answer["x-ratelimit-limit-requests"], answer["x-ratelimit-remaining-requests"]) == ("50", "49")
    gate.open()
    assert [answer.status for answer in ask_all(clients)] == [200, 200]


# --- who leaves ------------------------------------------------------------------------------------------------------------

def hangs(x):
    x.hang()


def streams_for_ever(x):
    x.stream_head().chunk(STREAM[0])
    x.hang()


def half_an_answer(x):
    x.head(200, [("Content-Type", "application/json"), ("Content-Length", "100")]).send(b"{" * 50)
    x.hang()


half_an_upload = request("POST", "/v1/files", [("Content-Length", "100000")]) + b"x" * 50000
LEAVES = {  # what the upstream does, what is asked, and what the client has by the time it leaves
    "queued": (hangs, post(CHAT, chat()), None),
    "uploading": (hangs, half_an_upload, None),
    "before_the_first_byte": (hangs, post(CHAT, chat()), None),
    "streaming": (streams_for_ever, post(CHAT, chat(stream=True)), STREAM[0]),
    "in_a_plain_answer": (half_an_answer, post(CHAT, chat()), b"{" * 50),
}


@pytest.mark.parametrize("kind", LEAVES)
def test_who_leaves_frees_his_place_every_time(world, start, kind):
    """LEAVING places, as many clients, TURNS times: each turn gets its places only if all of the one before are free."""
    script, asked, seen = LEAVES[kind]
    up = world.upstream(script)
    gw, admin = start(f"upstreams: {{up: {{url: '{up.url}', max_in_flight: {LEAVING}}}}}\nqueue: {{wait: 10m}}\n")
    holders = []
    if kind == "queued":
        holders = [world.connect(gw) for _ in range(LEAVING)]
        for client in holders:
            client.send(asked)
        up.wait_requests(LEAVING)
    for turn in range(TURNS):
        begun = len(up.requests)
        clients = [world.connect(gw) for _ in range(LEAVING)]
        for client in clients:
            client.send(asked)
        if holders:
            wait_queued(admin, LEAVING)
        else:
            up.wait(lambda: len(up.requests) == begun + LEAVING, f"{LEAVING} more calls in turn {turn}")
        for n, client in enumerate(clients):
            if seen:
                client.read_until(client.read_head("POST"), seen)
            client.reset() if (turn + n) % 2 else client.close()
        if holders:
            wait_queued(admin, 0)
        else:
            up.wait(lambda: all(r.connection.closed for r in up.requests[begun:]), f"the calls of turn {turn} to be dropped")
    poll(lambda: admin.state()["in_flight"] == len(holders), lambda: f"nothing to be left: {admin.state()}")
    metrics = admin.metrics()
    gone = {kind: value for (_, (_, kind)), value in metrics["thaw_outcomes"].items() if kind.startswith("GONE_")}
    assert sum(gone.values()) == TURNS * LEAVING, gone
    assert len(up.requests) == (LEAVING if holders else TURNS * LEAVING), "nothing was sent for who was not there"
    assert sum(metrics["thaw_upstream_in_flight"].values()) == len(holders) and sum(metrics["thaw_queued"].values()) == 0


# --- storms ------------------------------------------------------------------------------------------------------------------

def calls_at(world, mock):
    return world.connect(mock).ask(request("GET", "/mock/stats")).json()["calls"]


@pytest.mark.parametrize("upstreams", [1, 2])
def test_a_storm_of_refusals_is_not_multiplied(world, start, upstreams):
    """Every call fails, and each client's call costs each upstream at most 1.1 calls, beyond the few saved up."""
    mocks = [world.mock("--fault", "429:50%", "--fault", "503:50%") for _ in range(upstreams)]
    listed = ", ".join(f"u{n}: {{url: '{mock.url}/v1'}}" for n, mock in enumerate(mocks))
    gw, admin = start(f"""
        upstreams: {{{listed}}}
        models: {{m: {{use: [{', '.join(f'u{n}' for n in range(upstreams))}]}}}}
        breaker: {{failures: 0}}
        """)
    clients = [world.connect(gw) for _ in range(STORM)]
    for n, client in enumerate(clients):
        client.send(post(CHAT, chat(text=f"call {n}")))
    statuses = collections.Counter(answer.status for answer in ask_all(clients))
    assert sum(statuses.values()) == STORM and set(statuses) <= {429, 503}, statuses
    for mock in mocks:
        assert STORM <= calls_at(world, mock) <= 1.1 * STORM + 10
    metrics = admin.metrics()
    assert sum(metrics["thaw_retries"].values()) <= upstreams * (0.1 * STORM + 10)
    assert sum(metrics["thaw_fallbacks"].values()) == (upstreams - 1) * STORM


def test_a_storm_is_over_for_an_upstream_that_rests(world, start):
    mock = world.mock("--fault", "503:100%")
    gw, admin = start(f"upstreams: {{up: {{url: '{mock.url}/v1'}}}}\nretries: 0\nbreaker: {{failures: 5, rest: 1h}}\n")
    client = world.connect(gw)
    said = [client.ask(post(CHAT, chat(text=f"call {n}"))) for n in range(50)]
    assert calls_at(world, mock) == 5
    assert all(answer.error()["code"] == "upstream_resting" and int(answer["retry-after"]) > 60 for answer in said[5:])
    assert admin.metrics()["thaw_breaker_state"][("thaw_breaker_state", ("upstream", "up"))] == 1


# --- time, and what is told of a call ------------------------------------------------------------------------------------

def test_a_call_may_say_how_long_it_may_take(world, start):
    def script(x):
        x.hang()
    up = world.upstream(script)
    gw, _ = start(f"upstreams: {{up: {{url: '{up.url}', max_in_flight: 1}}}}\n")
    holder, waiting = world.connect(gw), world.connect(gw)
    holder.send(post(CHAT, chat(), [("X-Request-Timeout", "3")]))
    call = up.wait_requests(1)[0]
    assert 0 < float(call["x-request-timeout"]) <= 3
    answer = waiting.ask(post(CHAT, chat(), [("X-Request-Timeout", "100ms")]))
    assert answer.status == 503 and answer.error()["code"] == "queue_timeout"
    answer = holder.read("POST")
    assert answer.status == 504 and "X-Request-Timeout" in answer.error()["message"]
    assert world.connect(gw).ask(post(CHAT, chat(), [("X-Request-Timeout", "soon")])).status == 400


TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
TRACEPARENT = re.compile(r"00-([0-9a-f]{32})-([0-9a-f]{16})-00\Z")


def test_a_line_tells_the_whole_story_of_a_call(world, start):
    """A call that waits, is refused once and then answered: its fields, its trace and its line in the log."""
    log = world.folder / "access.log"
    gate = Gate()

    def script(x):
        if x.number == 0:
            x.wait(gate)
        if x.number == 1:
            x.answer(429, b"{}", [("retry-after-ms", "10")])
        else:
            streams(STREAM)(x)
    up = world.upstream(script)
    gw, admin = start(f"""
        access_log: {log}
        server_timing: true
        clients: {{chatbot: {{keys: canary-key}}}}
        limits: {{requests_per_minute: 100}}
        upstreams: {{up: {{url: '{up.url}', max_in_flight: 1}}}}
        """)
    fields = [bearer("canary-key"), ("traceparent", TRACE), ("tracestate", "a=1")]
    first, second = world.connect(gw), world.connect(gw)
    first.send(post(CHAT, chat(stream=True), fields))
    up.wait_requests(1)
    second.send(post(CHAT, chat(stream=True), fields))
    wait_queued(admin, 1)
    gate.open()
    assert first.read("POST").body == b"".join(STREAM)
    answer = second.read("POST")
    assert answer.body == b"".join(STREAM)
    assert answer["x-thaw-attempts"] == "2" and answer["x-thaw-upstream"] == "up"
    assert answer["x-ratelimit-limit-requests"] == "100" and answer["x-ratelimit-remaining-requests"] == "98"
    assert re.fullmatch(r"thaw;dur=[0-9.]+, upstream;dur=[0-9.]+", answer["server-timing"])
    told = [TRACEPARENT.match(call["traceparent"]) for call in up.requests]
    assert all(told) and TRACE[3:35] not in {trace[1] for trace in told}, "a client's trace ends here, unless it is trusted"
    assert all("tracestate" not in call.fields for call in up.requests)
    poll(lambda: log.read_text().count("\n") == 2, "two lines")
    line = json.loads(log.read_text().splitlines()[1])
    assert {name: line[name] for name in ("method", "path", "model", "client", "key", "status", "outcome", "stream", "cut",
                                          "bytes_out", "upstream", "attempts")} == {
        "method": "POST", "path": CHAT, "model": "m", "client": "127.0.0.1", "key": "chatbot", "status": 200,
        "outcome": "COMPLETE", "stream": True, "cut": False, "bytes_out": len(answer.body), "upstream": "up", "attempts": 2}
    assert line["ms"] >= line["queued_ms"] + line["upstream_ms"] and line["queued_ms"] > 0 and line["thaw_ms"] > 0
    assert line["trace"] == told[-1][1]


def test_a_trusted_trace_goes_on_as_it_came(world, start):
    up = world.upstream(says(b"{}"))
    gw, _ = start(f"upstreams: {{up: {{url: '{up.url}'}}}}\ntrace: {{trust: true}}\n")
    world.connect(gw).ask(post(CHAT, chat(), [("traceparent", TRACE), ("tracestate", "a=1")]))
    assert (up.only()["traceparent"], up.only()["tracestate"]) == (TRACE, "a=1")
