# SPDX-License-Identifier: MIT
"""The configuration read again: by SIGHUP and because its file changed; what runs goes on, what is wrong changes nothing."""
import os
import signal

import pytest

from openai_api import CHAT, CHAT_ANSWER, CHAT_REQUEST, STREAM, STREAM_REQUEST
from process import run
from rawhttp import post, request
from upstream import Gate, says, streams
from waiting import poll

AGAIN = r"configuration read again"
REFUSED = r"the configuration was refused, the old one stays"


def to(up, more=""):
    return f"upstreams: {{up: {{url: {up.url}}}}}\n{more}"


def times(gw, pattern, count):
    """It has said so that often."""
    gw.wait_text(rf"(?s)(?:{pattern}.*){{{count}}}")
    assert gw.text.count(pattern) == count, gw.text


def asked(world, gw, fields=()):
    return world.connect(gw).ask(post(CHAT, CHAT_REQUEST, list(fields)))


def in_place(path, text):
    path.write_text(text)


def as_editors_do(path, text):
    new = path.with_suffix(".new")
    new.write_text(text)
    os.rename(new, path)


def serve(world, text, *args, **more):
    path = world.config(text)
    return path, world.serve(None, "--config", path, *args, **more)


def test_sighup_takes_over_what_is_new(world):
    first, second = world.upstream(says(CHAT_ANSWER)), world.upstream(says(CHAT_ANSWER))
    path, gw = serve(world, to(first))
    assert asked(world, gw).status == 200
    assert len(first.requests) == 1
    path.write_text(to(second))
    gw.signal(signal.SIGHUP)
    gw.wait_text(AGAIN)
    poll(lambda: asked(world, gw).status == 200 and second.requests, "the second upstream to be asked")


def test_more_clients_are_let_in(world):
    """Two hold all the places that there are."""
    mock = "upstreams: {up: {url: mock}}\nmax_connections: "
    path, gw = serve(world, f"{mock}2\n")
    held = [world.connect(gw) for _ in range(2)]
    for client in held:
        client.send(post(CHAT, {"model": "mock-600s", "messages": [{"role": "user", "content": "x"}]}))
    before = gw.descriptors()
    path.write_text(f"{mock}50\n")
    gw.signal(signal.SIGHUP)
    gw.wait_text(AGAIN)
    for _ in range(10):
        client = world.connect(gw)
        assert client.ask(request("GET", "/healthz")).status == 200
        held.append(client)
    assert gw.descriptors() >= before + 8


def test_sighup_reads_also_what_did_not_change(world):
    path, gw = serve(world, to(world.upstream()))
    gw.signal(signal.SIGHUP)
    times(gw, AGAIN, 1)
    gw.signal(signal.SIGHUP)
    times(gw, AGAIN, 2)


@pytest.mark.parametrize("write", [in_place, as_editors_do])
def test_a_changed_file_is_noticed(world, write):
    first, second = world.upstream(says(CHAT_ANSWER)), world.upstream(says(CHAT_ANSWER))
    path, gw = serve(world, to(first))
    write(path, to(second))
    times(gw, AGAIN, 1)
    poll(lambda: asked(world, gw).status == 200 and second.requests, "the second upstream to be asked")
    write(path, to(first))
    times(gw, AGAIN, 2)


def test_a_swapped_link_to_a_folder_is_noticed_as_kubernetes_does_it(world):
    first, second = world.upstream(says(CHAT_ANSWER)), world.upstream(says(CHAT_ANSWER))
    mount = world.folder / "mount"
    for name, up in (("..1", first), ("..2", second), ("..3", first)):
        (mount / name).mkdir(parents=True)
        (mount / name / "thaw.yaml").write_text(to(up))
    (mount / "..data").symlink_to("..1")
    (mount / "thaw.yaml").symlink_to("..data/thaw.yaml")
    gw = world.serve(None, "--config", mount / "thaw.yaml")
    for count, name in ((1, "..2"), (2, "..3")):
        (mount / "..tmp").symlink_to(name)
        os.rename(mount / "..tmp", mount / "..data")
        times(gw, AGAIN, count)


def test_a_link_to_a_file_elsewhere_is_followed(world):
    first, second = world.upstream(says(CHAT_ANSWER)), world.upstream(says(CHAT_ANSWER))
    real = world.folder / "elsewhere" / "real.yaml"
    real.parent.mkdir()
    real.write_text(to(first))
    (world.folder / "thaw.yaml").symlink_to(real)
    gw = world.serve(None, "--config", world.folder / "thaw.yaml")
    real.write_text(to(second))
    times(gw, AGAIN, 1)


def test_a_file_with_the_same_bytes_is_no_reload(world):
    up = world.upstream()
    path, gw = serve(world, to(up))
    as_editors_do(path, to(up))
    path.write_text(to(up))
    other = world.folder / "other"
    other.write_text("not ours")
    as_editors_do(path, to(up, "drain: 7s\n"))  # this one is
    times(gw, AGAIN, 1)


def test_a_bad_file_changes_nothing_and_is_told_as_at_the_start(world):
    up = world.upstream(says(CHAT_ANSWER))
    path, gw = serve(world, to(up))
    as_editors_do(path, "upstrems: {}\n")
    times(gw, REFUSED, 1)
    wrong = run("serve", "--check", "--config", path)
    sentence = wrong.err.removeprefix("thaw serve: ").strip()
    assert wrong.code == 2 and sentence in gw.text, (wrong, gw.text)
    assert asked(world, gw).status == 200
    path.unlink()
    gw.signal(signal.SIGHUP)
    times(gw, REFUSED, 2)
    assert asked(world, gw).status == 200
    path.write_text(to(up))
    times(gw, AGAIN, 1)


def test_certificates_that_cannot_be_read_are_refused(world):
    up = world.upstream(says(CHAT_ANSWER))
    path, gw = serve(world, to(up))
    as_editors_do(path, "upstreams: {up: {url: 'https://127.0.0.1:9/v1', ca_file: /nonexistent.pem}}\n")
    times(gw, REFUSED, 1)
    assert asked(world, gw).status == 200


def test_what_needs_a_restart_is_named_and_the_rest_taken_over(world):
    first, second = world.upstream(says(CHAT_ANSWER)), world.upstream(says(CHAT_ANSWER))
    path, gw = serve(world, to(first))
    as_editors_do(path, to(second, "max_head: 16k\npace: 1ms\ndrain: 9s\n"))
    times(gw, AGAIN, 1)
    line = next(line for line in gw.text.splitlines() if "restart" in line)
    assert "max_head" in line and "pace" in line and "drain" not in line and "upstreams" not in line, line
    poll(lambda: asked(world, gw).status == 200 and second.requests, "the second upstream to be asked")


def test_options_of_the_command_line_stay_on_top(world):
    up = world.upstream(says(CHAT_ANSWER))
    path, gw = serve(world, to(up), "--model", "of-the-options")
    as_editors_do(path, to(up, "default_model: of-the-file\n"))
    times(gw, AGAIN, 1)
    answer = world.connect(gw).ask(post("/chat", {"prompt": "hi"}))
    assert answer.status == 200 and up.requests[-1].json()["model"] == "of-the-options"


def test_variables_are_the_process_s_own(world):
    up = world.upstream(says(CHAT_ANSWER))
    path, gw = serve(world, to(up), env={"ANOTHER_KEY": "sk-canary-another"})
    as_editors_do(path, f"upstreams: {{up: {{url: {up.url}, key: '${{ANOTHER_KEY}}'}}}}\n")
    times(gw, AGAIN, 1)
    poll(lambda: asked(world, gw).status == 200 and up.requests[-1]["authorization"] == "Bearer sk-canary-another",
         "the key to be used")


@pytest.mark.threads
def test_calls_that_run_go_on_while_everything_changes(world):
    gate = Gate()
    first = world.upstream(streams(STREAM, gates=[None, gate]))
    second = world.upstream(says(CHAT_ANSWER))
    path, gw = serve(world, "keys: [sk-canary-one]\n" + to(first), workers=2)
    one, two = ([("Authorization", f"Bearer sk-canary-{name}")] for name in ("one", "two"))
    clients = [world.connect(gw) for _ in range(6)]
    for client in clients:
        client.send(post(CHAT, STREAM_REQUEST, one))
    answers = [client.read_until(client.read_head(), STREAM[0]) for client in clients]
    for count in range(1, 11):
        path.write_text(f"# {count}\nkeys: [sk-canary-two]\n" + to(second))
        gw.signal(signal.SIGHUP)
        gw.wait_text(rf"(?s)(?:{AGAIN}.*){{{count}}}")
    poll(lambda: asked(world, gw, two).status == 200, "the new key to be known")
    poll(lambda: asked(world, gw, one).status == 401, "the old key to be unknown to all workers")
    gate.open()
    for client, answer in zip(clients, answers):
        assert client.read_rest(answer).body == b"".join(STREAM)


def test_a_draining_gateway_reads_nothing_again(world):
    gate = Gate()
    up = world.upstream(lambda x: x.wait(gate))
    path, gw = serve(world, to(up))
    client = world.connect(gw)
    client.send(post(CHAT, CHAT_REQUEST))
    up.wait(lambda: len(up.requests) == 1, "the call")
    gw.signal(signal.SIGTERM)
    gw.wait_text("taking no new calls")
    gw.signal(signal.SIGHUP)
    gw.wait_text("is leaving")
    gw.signal(signal.SIGTERM)
    assert gw.wait_end() == 0
    gw.judged = True
    gate.open()


def test_without_a_file_sighup_reads_the_options_again(world):
    up = world.upstream(says(CHAT_ANSWER))
    gw = world.serve(up)
    gw.signal(signal.SIGHUP)
    times(gw, AGAIN, 1)
    assert asked(world, gw).status == 200
    assert world.connect(gw).ask(request("GET", "/healthz")).status == 200
