# SPDX-License-Identifier: MIT
"""thaw probe over HTTP/2: the mock by prior knowledge, a gateway behind TLS, and Node.js, which limits, refuses and says goodbye.

As in test_probe.py: what is inferred has to be right or inconclusive, for a busy machine may leave it so."""
import http.server
import json
import pathlib
import subprocess
import threading

import pytest

import certificates
from process import run, with_parent
from upstream import says
from waiting import LIMIT

SECRET = "hushhush"
BODY = json.dumps({"model": "m", "messages": [{"role": "user", "content": SECRET}]})
CHAT = "/v1/chat/completions"
HERE = pathlib.Path(__file__).resolve().parent


def probe(url, *args):
    return run("probe", url, *args, timeout=6 * LIMIT, secret=SECRET.encode())


def ask(url, *args):
    done = probe(url + CHAT, "-d", BODY, "--json", *args)
    return done, json.loads(done.out or "null")


def h2c(thing):
    return thing.url.replace("http://", "h2c://")


def calls(document):
    return [c for trial in document["trials"] for c in trial["calls"]]


def check_verdict(done, document, model, at_once):
    if document["model"] == "inconclusive":
        assert done.code == 4 and document["doubt"], done
    else:
        assert (done.code, document["at_once"]) == (0, at_once), done
        assert document["model"] == model or at_once == 1


class Node:
    def __init__(self, **options):
        self.process = subprocess.Popen(["node", HERE / "h2_upstream.mjs", json.dumps(options)], stdin=subprocess.DEVNULL,
                                        stdout=subprocess.PIPE, text=True, preexec_fn=with_parent())
        port = int(self.process.stdout.readline())
        self.url = f"{'https' if 'cert' in options else 'h2c'}://127.0.0.1:{port}"

    def close(self):
        self.process.kill()
        self.process.communicate()


@pytest.fixture
def node(world):
    def start(**options):
        up = Node(**options)
        world.other.append(up)
        return up
    return start


def acting(do, **more):
    fields = {"x-do": do, **{"x-" + name: value for name, value in more.items()}}
    return [word for name, value in fields.items() for word in ("-H", f"{name}: {value}")]


# --- the same verdicts -------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("capacity,model,at_once", [
    ("pool:6", "pool", 6), ("lock", "serial", 1), ("unlimited", "flat", None), ("cap:5", "cap", 5), ("workers:2x2", "partitioned", 4)])
def test_the_verdict_is_that_of_http1(world, capacity, model, at_once):
    mock = world.mock("--latency", "200ms", "--capacity", capacity)
    done, document = ask(h2c(mock))
    check_verdict(done, document, model, at_once)
    assert (document["http"], document["max_streams"]) == ("2", 100)
    streams = [len(t["calls"]) for t in document["trials"] if t["kind"] == "streams"]
    assert streams in ([], [12]), streams
    if document["one_connection"]:
        assert document["one_connection"]["calls"] == 12 and streams


def test_what_the_journal_counted_is_exact(world):
    mock = world.mock("--latency", "200ms", "--capacity", "pool:6")
    done, document = ask(mock.url, "--http2-prior-knowledge", "--journal", mock.url)
    check_verdict(done, document, "pool", 6)
    assert document["http"] == "2" and document["self"]["journal"]
    assert all(c["seat"] in range(1, 7) for c in calls(document))
    assert document["exact"] or document["model"] == "inconclusive"


def test_streams_have_first_tokens(world):
    body = json.dumps({"model": "mock-5x20ms", "stream": True, "messages": [{"role": "user", "content": "a"}]})
    done = probe(h2c(world.mock()) + CHAT, "-d", body, "--users", 3, "--stream", "--json")
    burst = json.loads(done.out)["trials"][-1]
    assert burst["kind"] == "burst" and len(burst["calls"]) == 3
    assert all(c["first_token_ms"] >= c["start_ms"] and c["longest_gap_ms"] > 0 for c in burst["calls"])


def test_thousands_of_users(world):
    mock = world.mock("--latency", "1s")
    done, document = ask(h2c(mock), "--users", 2000, "--canary", "off")
    burst = document["trials"][-1]
    assert document["http"] == "2" and len(burst["calls"]) == 2000 and all(c["status"] == 200 for c in burst["calls"])
    assert burst["skew_ms"] > 0 and (done.code, document["model"]) in ((0, "flat"), (4, "inconclusive")), done


def test_a_long_body_and_a_long_answer_pass(world, node, tmp_path):
    body = tmp_path / "body"
    body.write_text(json.dumps({"prompt": "y" * 300_000}))
    done = probe(node().url + "/x", "-d", f"@{body}", "--users", 3, "--json")
    burst = json.loads(done.out)["trials"][-1]["calls"]
    assert [c["status"] for c in burst] == [200] * 3, done
    done = probe(node().url + "/x", *acting("large", count=5_000_000), "--users", 3, "--json")
    burst = json.loads(done.out)["trials"][-1]["calls"]
    assert [(c["status"], c["bytes"]) for c in burst] == [(200, 5_000_000)] * 3, done


# --- who agrees to what ------------------------------------------------------------------------------------------------

@pytest.fixture
def authority(tmp_path):
    return certificates.Authority(tmp_path)


@pytest.mark.parametrize("args,version", [([], "2"), (["--http2"], "2"), (["--http2-prior-knowledge"], "2"), (["--http1.1"], "1.1")])
def test_over_tls_it_is_what_alpn_agrees_on(world, authority, args, version):
    mock = world.mock("--latency", "200ms", "--capacity", "pool:3")
    pem, key = authority.issue("good")
    key.chmod(0o600)
    gw = world.serve(config=f"tls: [{{cert: {pem}, key: {key}}}]\nupstreams: {{up: {{url: {mock.url}/v1}}}}\n")
    done, document = ask(f"https://127.0.0.1:{gw.port}", "--ca", authority.pem, *args)
    check_verdict(done, document, "pool", 3)
    assert document["http"] == version and (document["max_streams"] is not None) == (version == "2")
    assert all(c["status"] == 200 and c["connect_ms"] > 0 for c in calls(document))


def test_a_server_with_http1_alone_is_spoken_to_or_not(world, authority):
    up = world.upstream(says(), tls=certificates.server(authority.issue("good")))
    done = probe(up.url + "/chat", "--users", 3, "--ca", authority.pem, "--json")
    document = json.loads(done.out)
    assert document["http"] == "1.1" and [c["status"] for c in calls(document)[-3:]] == [200] * 3
    done = probe(up.url + "/chat", "--http2", "--ca", authority.pem)
    assert done.code == 3 and "does not agree to HTTP/2" in done.err and not done.out, done


def test_prior_knowledge_that_is_wrong_is_said():
    class Quiet(http.server.BaseHTTPRequestHandler):  # which answers 505
        def log_message(self, *_):
            pass
    with http.server.HTTPServer(("127.0.0.1", 0), Quiet) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        done = probe(f"h2c://127.0.0.1:{server.server_port}/chat", "--canary", "off")
        server.shutdown()
    assert done.code == 3 and not done.out, done
    assert "it does not speak HTTP/2" in done.err or "instead of speaking HTTP/2" in done.err, done  # it may reset


BAD = [
    (["http://h/", "--http2"], "--http2-prior-knowledge"),
    (["h2c://h/", "--http1.1"], "h2c:// is HTTP/2"),
    (["https://h/", "--http2", "--http1.1"], "--http2 or --http1.1, not both"),
    (["http://h/", "--journal", "h2c://h:9000"], "the URL of a thaw mock"),
]


@pytest.mark.parametrize("args,said", BAD)
def test_wrong_usage(args, said):
    done = run("probe", *args, secret=SECRET.encode())
    assert done.code == 2 and said in done.err and not done.out, done


# --- what HTTP/2 itself does -------------------------------------------------------------------------------------------

def test_a_limit_of_streams_is_told_and_is_no_pool(node):
    done = probe(node(limit=5).url + "/x", *acting("slow", ms=200), "--json")
    document = json.loads(done.out)
    check_verdict(done, document, "flat", None)
    assert document["max_streams"] == 5 and document["tried_up_to"] > 12
    assert all(c["status"] == 200 for c in calls(document))
    assert max([len(t["calls"]) for t in document["trials"] if t["kind"] == "streams"], default=0) <= 5


def test_who_serves_a_connection_in_turn_is_told(node):
    done = probe(node().url + "/x", *acting("in_turn", ms=200), "--json")
    document = json.loads(done.out)
    check_verdict(done, document, "flat", None)
    one = document["one_connection"]
    if one:
        assert (one["calls"], one["found"]) == (12, "slower") and one["times"] > 3, one


def test_streams_that_are_refused_are_not_the_apps_cap(node):
    done = probe(node().url + "/x", *acting("few", count=5, ms=200), "--json")
    document = json.loads(done.out)
    assert (done.code, document["model"], document["doubt"]) == (4, "inconclusive", "streams"), done
    assert "HTTP/2 turned calls away, not the app" in document["headline"] and "REFUSED_STREAM" in done.err
    burst = document["trials"][1]["calls"]
    assert all(c.get("turned_away", False) == (c["status"] == 0) for c in burst)
    done = probe(node().url + "/x", *acting("refuse", id="{{nonce}}"), "--canary", "off")
    assert done.code == 3 and "REFUSED_STREAM" in done.err, done


def test_a_goodbye_behind_the_answer_is_none_of_the_calls(node):
    done = probe(node().url + "/x", *acting("goaway"), "--users", 3, "--json")
    assert [c["status"] for c in calls(json.loads(done.out))[-3:]] == [200] * 3, done
