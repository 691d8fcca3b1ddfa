# SPDX-License-Identifier: MIT
"""thaw probe: the real binary against the mock's capacities and the lab's patterns, and against targets that misbehave.

A machine that is busy may leave a probe inconclusive, and no test measures time: what is inferred has to be right or
inconclusive, what the mock's journal counts has to be right.
"""
import json
import os
import pty
import re
import resource
import signal
import subprocess
import xml.etree.ElementTree

import pytest

import certificates
from process import THAW, check_output, environment, free_port, run, with_parent
from upstream import refused_port, says, sends
from waiting import LIMIT

SECRET = "hushhush"  # of every prompt and credential here: a prober has canaries of its own
BODY = json.dumps({"model": "m", "messages": [{"role": "user", "content": SECRET}]})
CHAT = "/v1/chat/completions"
LONG = 6 * LIMIT


def probe(url, *args, timeout=LONG, **more):
    return run("probe", url, *args, timeout=timeout, secret=SECRET.encode(), **more)


def ask(mock, *args, **more):
    return probe(mock.url + CHAT, "-d", BODY, "--json", *args, **more)


def calls(document):
    return [c for trial in document["trials"] for c in trial["calls"]]


# --- what there is to find ---------------------------------------------------------------------------------------------

@pytest.mark.parametrize("capacity,at_once", [("pool:6", 6), ("lock", 1), ("pool:2:random", 2), ("unlimited", None)])
def test_what_the_journal_counted_is_exact(world, capacity, at_once):
    mock = world.mock("--latency", "200ms", "--capacity", capacity)
    done = ask(mock, "--journal", mock.url)
    document = json.loads(done.out)
    assert document["self"]["journal"]
    assert all(c["seen_end_ms"] > c["seen_start_ms"] and c["seat"] for c in calls(document))
    if document["model"] != "inconclusive":
        assert (done.code, document["at_once"]) == (0, at_once), done
        assert document["exact"] or capacity == "unlimited"
    else:
        assert done.code == 4, done
    events = sorted([(c["seen_start_ms"], 1) for c in calls(document)] + [(c["seen_end_ms"] - 1, -1) for c in calls(document)])
    now, most = 0, 0
    for _, step in events:
        now += step
        most = max(most, now)
    assert most == (at_once or max(len(t["calls"]) for t in document["trials"]))


@pytest.mark.parametrize("capacity,model,at_once", [
    ("pool:6", "pool", 6), ("lock", "serial", 1), ("unlimited", "flat", None), ("cap:5", "cap", 5), ("bucket:10/s:5", "bucket", 5)])
def test_a_verdict_is_right_or_there_is_none(world, capacity, model, at_once):
    done = ask(world.mock("--latency", "200ms", "--capacity", capacity))
    document = json.loads(done.out)
    if document["model"] == "inconclusive":
        assert done.code == 4 and document["at_once"] is None and document["doubt"], done
    else:
        assert (done.code, document["at_once"]) == (0, at_once), done
        assert document["model"] == model or at_once == 1
    assert document["self"]["calls"] == len(calls(document))
    said = re.search(r"at most (\d+) calls", done.err)
    assert said and document["self"]["calls"] <= int(said[1])


def test_calls_of_one_session_are_told_from_calls_of_many(world):
    mock = world.mock("--latency", "200ms", "--capacity", "session")
    done = ask(mock, "--session", "sid", "--journal", mock.url)
    document = json.loads(done.out)
    assert document["model"] in ("session", "inconclusive"), done
    sessions = [t for t in document["trials"] if t["kind"] == "session"]
    for trial in sessions:
        spans = sorted((c["seen_start_ms"], c["seen_end_ms"]) for c in trial["calls"])
        assert all(a[1] <= b[0] + 1 for a, b in zip(spans, spans[1:])), spans
    assert sessions or document["model"] == "inconclusive"


def test_every_call_is_another_one(world):
    up = world.upstream(says())
    probe(up.url + "/chat", "-d", '{"prompt":"hi"}', "--users", 5)
    probes = [r for r in up.requests if r.head.startswith(b"POST /v1/chat ")]
    prompts = {r.json()["prompt"] for r in probes}
    assert len(probes) >= 5 and len(prompts) == len(probes)
    assert {f"hi {r['X-Thaw-Probe']}" for r in probes} == prompts
    assert all(r["Connection"] == "close" and r["Content-Type"] == "application/json" for r in probes)


def test_placeholders_are_filled_and_nothing_else_is_added(world):
    up = world.upstream(says())
    probe(up.url + "/u/{{user}}?n={{nonce}}", "-H", "X-Who: u{{user}}", "-X", "PUT", "--users", 3)
    burst = [r for r in up.requests if r.head.startswith(b"PUT ")][-3:]
    assert sorted(r["X-Who"] for r in burst) == ["u1", "u2", "u3"]
    for r in burst:
        assert re.match(rb"PUT /v1/u/%s\?n=thaw-[0-9a-f]{16} HTTP" % r["X-Who"][1:].encode(), r.head)


def test_a_burst_is_drawn_and_streams_have_first_tokens(world):
    mock = world.mock()
    body = json.dumps({"model": "mock-5x20ms", "stream": True, "messages": [{"role": "user", "content": "a"}]})
    done = probe(mock.url + CHAT, "-d", body, "--users", 3, "--stream", "--json")
    burst = json.loads(done.out)["trials"][-1]
    assert burst["kind"] == "burst" and len(burst["calls"]) == 3
    assert all(c["first_token_ms"] >= c["start_ms"] and c["longest_gap_ms"] > 0 for c in burst["calls"])


def test_staggered_users_come_one_after_another(world):
    done = ask(world.mock("--latency", "100ms", "--capacity", "lock"), "--users", 3, "--stagger", "50ms")
    trial = json.loads(done.out)["trials"][-1]
    starts = [c["start_ms"] for c in trial["calls"]]
    assert trial["kind"] == "staggered" and len(starts) == 3
    assert all(b - a >= 45 for a, b in zip(starts, starts[1:])), starts


def test_thousands_of_users(world):
    mock = world.mock("--latency", "1s")
    done = ask(mock, "--users", 2000, "--canary", "off")
    burst = json.loads(done.out)["trials"][-1]
    assert len(burst["calls"]) == 2000 and all(c["status"] == 200 for c in burst["calls"])
    assert burst["skew_ms"] > 0 and done.code in (0, 4)


# --- the mock behind the app -------------------------------------------------------------------------------------------

def test_with_a_mock_of_its_own_the_app_is_seen_through(world):
    port = free_port()
    lab = world.lab("--cpus", 2, "--upstream", f"http://127.0.0.1:{port}/v1", "--model", "mock")
    done = probe(lab.url + "/to_thread", "-X", "POST", "--mock", "--mock-listen", f"127.0.0.1:{port}",
                 "--mock-latency", "200ms", "--json")
    document = json.loads(done.out)
    assert f"OPENAI_BASE_URL=http://127.0.0.1:{port}/v1" in done.err
    assert document["self"]["journal"] and all(c["seat"] in range(1, 7) for c in calls(document))
    if document["model"] != "inconclusive":
        assert (document["at_once"], document["exact"], done.code) == (6, True, 0), done


def test_an_app_that_does_not_call_the_mock_is_said_to(world):
    lab = world.lab("--seconds", "0.05")
    done = probe(lab.url + "/async", "-X", "POST", "--mock", "--mock-listen", "127.0.0.1:0", "--json")
    assert "the mock did not see these calls" in done.err
    assert not json.loads(done.out)["self"]["journal"]


@pytest.mark.parametrize("path,model,at_once,cause", [
    ("/to_thread", "pool", 6, "asyncio.to_thread"), ("/executor", "pool", 10, "ThreadPoolExecutor"),
    ("/async", "flat", None, None), ("/bad/global_lock", "serial", 1, "a global lock"),
    ("/bad/global_flag", "poll", 1, "a flag that is polled")])
def test_the_patterns_of_the_lab(world, path, model, at_once, cause):
    lab = world.lab("--cpus", 2, "--seconds", "0.2")
    document = json.loads(probe(lab.url + path, "-X", "POST", "--json").out)
    assert document["canary"] != "none"
    if document["model"] == "inconclusive":  # the machine was busy
        return
    assert (document["model"], document["at_once"]) == (model, at_once), document["headline"]
    if at_once == document["self"]["cpus"] + 4 or cause != "asyncio.to_thread":
        assert (document["cause"] or "").startswith(cause or ""), document["cause"]


def test_a_journal_that_is_not_there(world):
    up = world.upstream(says())
    done = probe(up.url + "/chat", "--journal", up.url)
    assert done.code == 3 and "the journal: no mock answers there" in done.err and not done.out, done
    sock, port = refused_port()
    with sock:
        done = probe(up.url + "/chat", "--journal", f"http://127.0.0.1:{port}")
    assert done.code == 3 and "the journal: connect to 127.0.0.1" in done.err, done


def test_on_a_terminal_it_waits_for_enter_and_redraws(world):
    port = free_port()
    lab = world.lab("--upstream", f"http://127.0.0.1:{port}/v1", "--model", "mock")
    ours, theirs = pty.openpty()
    child = subprocess.Popen([THAW, "probe", lab.url + "/async", "-X", "POST", "--users", "2", "--mock", "--mock-listen",
                              f"127.0.0.1:{port}", "--mock-latency", "300ms"], stdin=theirs, stdout=theirs, stderr=theirs,
                             env=environment({"TERM": "xterm", "LC_ALL": "C.UTF-8"}), preexec_fn=with_parent())
    os.close(theirs)
    said = b""
    try:
        while chunk := os.read(ours, 65536):
            if b"with Enter" in said + chunk and b"with Enter" not in said:
                os.write(ours, b"\n")
            said += chunk
    except OSError:
        pass  # the terminal is gone with its program
    os.close(ours)
    assert child.wait(LONG) in (0, 4)
    assert b"2 sent" in said and b"\r\x1b[K" in said and "█".encode() in said, said


# --- exit codes --------------------------------------------------------------------------------------------------------

def test_an_expectation_that_fails(world, tmp_path):
    mock = world.mock("--latency", "200ms", "--capacity", "pool:6")
    paths = [tmp_path / f"r{ending}" for ending in (".html", ".svg", ".json", ".md", ".xml")]
    done = ask(mock, "--journal", mock.url, "--expect", 10, *[x for p in paths for x in ("--report", p)],
               "-H", "Authorization: Bearer sk-hushhush", "-H", "Cookie: sid=hushhush")
    document = json.loads(done.out)
    assert done.code == (4 if document["model"] == "inconclusive" else 1), done
    texts = {p.suffix: p.read_text() for p in paths}
    assert all(texts.values()) and not any(SECRET in t for t in texts.values())
    assert json.loads(texts[".json"])["at_once"] == document["at_once"]
    suite = xml.etree.ElementTree.fromstring(texts[".xml"])
    if done.code == 1:
        assert document["headline"].startswith("6 at once, then a queue")
        assert "At least 10 at once were expected: not met." in suite.find(".//failure").get("message")
        assert document["expect_met"] is False
    assert "<svg" in texts[".svg"] and "<html" in texts[".html"]


def test_an_expectation_that_is_met(world):
    mock = world.mock("--latency", "200ms", "--capacity", "pool:6")
    assert ask(mock, "--journal", mock.url, "--expect", 5).code in (0, 4)


BAD = [
    (["http://h/", "--usrs", "3"], "did you mean '--users'?"),
    (["http://h/", "--users", "none"], "a number from 1 to 20000"),
    (["http://h/", "--users", "0"], "a number from 1 to 20000"),
    (["http://h/", "--stagger", "2"], "a duration as"),
    (["http://h/", "--stagger", "2s"], "--stagger goes with --users"),
    (["http://h/", "--users", "3", "--max", "9"], "without --max"),
    (["http://h/", "--report", "x.pdf"], ".html, .svg, .json, .md or .xml"),
    (["http://h/", "--report", "/nowhere/x.svg"], "cannot write /nowhere/x.svg"),
    (["http://h/", "--canary", "healthz"], "a path as /healthz, or off"),
    (["http://h/", "--mock", "--journal", "http://h:9000"], "not both"),
    (["http://h/", "--journal", "9000"], "the URL of a thaw mock"),
    (["http://h/", "-H", "no colon"], "a field as 'Name: value'"),
    (["http://h/", "-H", "Content-Length: 5"], "made by thaw"),
    (["http://h/", "-d", "@/nowhere"], "cannot read /nowhere"),
    (["http://h/", "-X", "GET /x"], "a method is a word"),
    (["http://h/", "http://i/"], "one URL at a time"),
    (["localhost:8004/chat"], "must begin with http:// or https://"),
    (["http://user:hushhush@h/"], "the URL"),
    ([], "which URL?"),
]


@pytest.mark.parametrize("args,said", BAD)
def test_wrong_usage_is_said_with_what_was_meant(args, said):
    done = run("probe", *args, secret=SECRET.encode())
    assert done.code == 2 and said in done.err and not done.out, done


def test_help_has_an_example():
    done = run("probe", "--help", secret=SECRET.encode())
    assert done.code == 0 and "thaw probe http://" in done.out and "--expect N" in done.out
    assert max(map(len, done.out.splitlines())) <= 80
    assert "probe" in run("--help").out


def test_nobody_there():
    sock, port = refused_port()
    with sock:
        done = probe(f"http://127.0.0.1:{port}/")
    assert done.code == 3 and "the connection was refused" in done.err and not done.out, done


def test_no_such_name():
    done = probe("http://no-such-host.invalid/")
    assert done.code == 3 and "no-such-host.invalid" in done.err, done


@pytest.mark.parametrize("then", ["reset", "close"])
def test_a_target_that_breaks_off_is_not_reached(world, then):
    done = probe(world.upstream(sends(b"", then)).url + "/chat", "--canary", "off")
    assert done.code == 3 and "the connection without an answer" in done.err, done


def test_a_target_that_hangs_is_not_reached(world):
    done = probe(world.upstream(sends(b"", "hang")).url + "/chat", "--timeout", "300ms", "--canary", "off")
    assert done.code == 3 and "no whole answer within 300ms" in done.err, done


def test_a_target_that_speaks_something_else(world):
    done = probe(world.upstream(sends(b"SSH-2.0-thing\r\n", "close")).url + "/chat", "--canary", "off")
    assert done.code == 3 and "not HTTP" in done.err, done


@pytest.mark.parametrize("status", [500, 401, 404])
def test_errors_are_said_plainly(world, status):
    done = probe(world.upstream(says(b"{}", status)).url + "/chat", "-d", "{}")
    assert done.code == 4 and f"it answered {status}" in done.err and not done.out, done


def test_a_redirect_is_said_without_its_query(world):
    to = "http://other.test/login?token=hushhush"
    done = probe(world.upstream(says(b"", 302, [("Location", to)])).url + "/chat")
    assert done.code == 4 and "redirect to http://other.test/login: probe that" in done.err, done


def test_more_users_than_descriptors(world):
    def limit():
        resource.setrlimit(resource.RLIMIT_NOFILE, (200, 200))
    done = probe("http://127.0.0.1:9/", "--users", 1000, before=limit)
    assert done.code == 4 and "ulimit -n" in done.err and "the prober would be the limit" in done.err, done


# --- the rest ----------------------------------------------------------------------------------------------------------

def test_over_tls_the_certificate_counts(world, tmp_path):
    authority = certificates.Authority(tmp_path)
    up = world.upstream(says(), tls=certificates.server(authority.issue("good")))
    done = probe(up.url + "/chat", "--users", 3, "--ca", authority.pem, "--json")
    burst = json.loads(done.out)["trials"][-1]["calls"]
    assert [c["status"] for c in burst] == [200] * 3 and all(c["connect_ms"] > 0 for c in burst)
    refused = probe(up.url + "/chat")
    assert refused.code == 3 and "certificate" in refused.err, refused


def test_secrets_and_prompts_are_not_shown(world):
    mock = world.mock("--latency", "20ms")
    done = probe(mock.url + CHAT + "?api_key=hushhush&page=2", "-d", BODY, "--users", 2, "-H", "Authorization: Bearer hushhush",
                 "--header", "X-Private: hushhush", "--header=X-Too: hushhush", "--ascii")
    again = done.out.replace("\n", " ")
    again = re.sub(r"\s+", " ", again)
    assert "?api_key=...&page=2" in again and "Authorization: ..." in again and "-d ..." in again, done.out
    assert done.out.isascii()


def test_the_picture_is_plain_where_nobody_looks(world):
    mock = world.mock("--latency", "50ms", "--capacity", "lock")
    done = probe(mock.url + CHAT, "-d", BODY, "--users", 3, env={"LC_ALL": "C"})
    assert done.out.isascii() and "\r" not in done.err and "user" in done.out


def test_ctrl_c_tells_what_is_known(world):
    mock = world.mock("--latency", "300ms", "--capacity", "lock")
    child = subprocess.Popen([THAW, "probe", mock.url + CHAT, "-d", BODY, "--users", "30", "--timeout", "60s"],
                             stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment(),
                             preexec_fn=with_parent())
    said = b""
    while b"a call takes" not in said:
        line = child.stderr.readline()
        assert line, said
        said += line
    child.send_signal(signal.SIGINT)
    out, err = child.communicate(timeout=LONG)
    check_output(out + said + err, SECRET.encode())
    assert child.returncode == 4 and b"what is known so far" in said + err
    assert b"thaw probe http" in out, out


def test_ctrl_c_while_it_waits_for_nothing_leaves_at_once(world):
    up = world.upstream(sends(b"", "hang"))
    child = subprocess.Popen([THAW, "probe", up.url + "/x", "--canary", "off"], stdin=subprocess.DEVNULL,
                             stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment(), preexec_fn=with_parent())
    up.wait_requests(1)
    child.send_signal(signal.SIGTERM)
    out, err = child.communicate(timeout=LIMIT)
    check_output(out + err, SECRET.encode())
    assert child.returncode == 4
