# SPDX-License-Identifier: MIT
"""SIGUSR2: the binary on disk takes over the listening sockets; no connection is refused, no call is lost."""
import os
import shutil
import signal
import socket
import subprocess
import threading

import pytest

import process
from openai_api import CHAT, CHAT_ANSWER, CHAT_REQUEST, STREAM, STREAM_REQUEST
from process import environment, free_port, listening, with_parent
from rawhttp import Client, post, request
from upstream import Gate, says, streams
from waiting import LIMIT, poll

STAYS = r"this one goes on"


def ended(old):
    """A process that handed over leaves in order."""
    assert old.wait(LIMIT) == 0


def healthy(world, gw, count=1):
    for _ in range(count):
        assert world.connect(gw).ask(request("GET", "/healthz")).status == 200


def test_the_new_process_serves_while_the_old_one_finishes_its_calls(world):
    gate = Gate()
    up = world.upstream(streams(STREAM, gates=[None, gate]))
    gw = world.serve(up, workers=2)
    before = gw.pid
    client = world.connect(gw)
    client.send(post(CHAT, STREAM_REQUEST))
    answer = client.read_until(client.read_head(), STREAM[0])
    old = gw.upgrade()
    assert gw.pid != before and old.poll() is None
    healthy(world, gw, 20)
    gate.open()
    assert client.read_rest(answer).body == b"".join(STREAM)
    ended(old)
    healthy(world, gw, 20)


def test_it_can_be_done_again_and_again(world):
    gw = world.serve(world.upstream(says(CHAT_ANSWER)), workers=2)
    for _ in range(4):
        kept = world.connect(gw)
        assert kept.ask(request("GET", "/healthz")).status == 200
        old = gw.upgrade()
        last = kept.ask(request("GET", "/healthz"))  # on a connection that the old one has kept alive
        assert last.status == 200 and last.fields.tokens("connection") == ["close"]
        ended(old)
    assert world.connect(gw).ask(post(CHAT, CHAT_REQUEST)).status == 200


@pytest.mark.threads
def test_no_call_is_lost_under_load(world):
    gw = world.serve(world.upstream(says(CHAT_ANSWER)), workers=2)
    stop = threading.Event()
    problems, counts = [], []

    def calls(keep):
        count, client = 0, None
        try:
            while not stop.is_set():
                client = client or Client(gw.port)
                answer = client.ask(post(CHAT, CHAT_REQUEST))
                assert answer.status == 200 and answer.body == CHAT_ANSWER, answer
                count += 1
                if not keep or "close" in answer.fields.tokens("connection"):
                    client.close()
                    client = None
        except BaseException as problem:
            problems.append(problem)
        finally:
            counts.append(count)
            if client:
                client.close()

    threads = [threading.Thread(target=calls, args=(n % 2 == 0,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for _ in range(3):
        ended(gw.upgrade())
    stop.set()
    for thread in threads:
        thread.join(LIMIT)
    assert not problems and len(counts) == 8 and all(counts), (problems, counts)


@pytest.mark.parametrize("before,after", [(1, 4), (4, 1), (3, 2)])
def test_another_number_of_workers_takes_all_sockets_over(world, before, after):
    up = world.upstream(says(CHAT_ANSWER))
    text = f"upstreams: {{up: {{url: {up.url}}}}}\n"
    path = world.config(text + f"workers: {before}\n")
    gw = world.serve(None, "--config", path, workers=None)
    path.write_text(text + f"workers: {after}\n")
    ended(gw.upgrade())
    gw.wait_text(rf"(?s)\b{before} worker.*\b{after} worker")
    healthy(world, gw, 50)  # each goes to one of the sockets, as the kernel likes
    ended(gw.upgrade())
    healthy(world, gw, 50)


def test_what_waits_in_a_backlog_is_answered_by_the_new_one(world):
    """The old process is stopped right behind its handing over: nobody but the new one can answer."""
    gate = Gate()
    up = world.upstream(lambda x: x.wait(gate))
    gw = world.serve(up, workers=2)
    busy = world.connect(gw)
    busy.send(post(CHAT, CHAT_REQUEST))
    up.wait(lambda: len(up.requests) == 1, "the call")
    old = gw.upgrade()
    old.send_signal(signal.SIGSTOP)
    healthy(world, gw, 30)
    old.send_signal(signal.SIGCONT)
    busy.close()
    ended(old)
    gate.open()


def test_nothing_is_inherited_but_the_sockets(world):
    gw = world.serve(world.upstream(says(CHAT_ANSWER)), workers=2)
    healthy(world, gw)
    sockets, before = listening(gw.pid), gw.descriptors()
    for _ in range(3):
        ended(gw.upgrade())
    healthy(world, gw)
    gw.settles_at(before)
    assert listening(gw.pid) == sockets >= 2
    with open(f"/proc/{gw.pid}/environ", "rb") as file:
        assert b"LISTEN_FDS" not in file.read()


def test_a_new_address_of_the_file_is_taken_over(world):
    up = world.upstream(says(CHAT_ANSWER))
    first, second = free_port(), free_port()
    text = f"upstreams: {{up: {{url: {up.url}}}}}\nlisten: 127.0.0.1:"
    path = world.config(f"{text}{first}\n")
    gw = world.serve(None, "--config", path, port=first, listen=False)
    path.write_text(f"{text}{second}\n")
    gw.wait_text("only a restart or an upgrade.*listen")
    old = gw.upgrade()
    ended(old)
    assert not gw.connects()
    gw.port = second
    healthy(world, gw)


# --- what goes wrong ---------------------------------------------------------------------------------------------------

def test_with_a_bad_configuration_the_old_one_goes_on(world):
    up = world.upstream(says(CHAT_ANSWER))
    text = f"upstreams: {{up: {{url: {up.url}}}}}\n"
    path = world.config(text)
    gw = world.serve(None, "--config", path)
    path.write_text("upstrems: {}\n")
    gw.signal(signal.SIGUSR2)
    gw.wait_text(rf"exit code 2 before it served: {STAYS}")
    healthy(world, gw, 5)
    path.write_text(text)
    ended(gw.upgrade())
    healthy(world, gw)


@pytest.mark.parametrize("binary,said", [
    pytest.param(None, "could not be started: No such file", id="gone"),
    pytest.param("#!/bin/sh\nexit 3\n", "exit code 3 before it served", id="another"),
    pytest.param("#!/bin/sh\nkill -9 $$\n", "did not come to serve", id="killed"),
])
def test_with_a_bad_binary_the_old_one_goes_on(world, monkeypatch, binary, said):
    built, copy = process.THAW, world.folder / "thaw"
    shutil.copy(built, copy)
    monkeypatch.setattr(process, "THAW", str(copy))
    gw = world.serve(world.upstream(says(CHAT_ANSWER)))
    copy.unlink()
    if binary:
        copy.write_text(binary)
        copy.chmod(0o755)
    gw.signal(signal.SIGUSR2)
    gw.wait_text(rf"{said}.*{STAYS}")
    assert world.connect(gw).ask(post(CHAT, CHAT_REQUEST)).status == 200
    if binary:
        copy.unlink()
        shutil.copy(built, copy)
        ended(gw.upgrade())
        assert world.connect(gw).ask(post(CHAT, CHAT_REQUEST)).status == 200


def test_sigterm_while_the_new_one_starts_ends_both(world, monkeypatch):
    copy = world.folder / "thaw"
    shutil.copy(process.THAW, copy)
    monkeypatch.setattr(process, "THAW", str(copy))
    gw = world.serve(world.upstream(says(CHAT_ANSWER)))
    copy.unlink()
    copy.write_text("#!/bin/sh\necho waiting >&2\nexec sleep 1000\n")
    copy.chmod(0o755)
    gw.signal(signal.SIGUSR2)
    gw.wait_text("waiting")
    gw.signal(signal.SIGTERM)
    assert gw.wait_end() == 0  # with its stderr, which nobody holds any more
    gw.judged = True


# --- sockets from systemd ------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("workers", [1, 3])
def test_sockets_are_taken_from_systemd(world, workers):
    """LISTEN_FDS as sd_listen_fds(3) has it; the address is not in the arguments."""
    up = world.upstream(says(CHAT_ANSWER))
    with socket.create_server(("127.0.0.1", 0)) as server:
        gw = world.serve(up, workers=workers, port=server.getsockname()[1], listen=False,
                         wrap=activated(server.fileno()))
        healthy(world, gw, 20)
        ended(gw.upgrade())
        healthy(world, gw, 20)
        assert world.connect(gw).ask(post(CHAT, CHAT_REQUEST)).status == 200


def activated(fd):
    """Around a command: the socket as descriptor 3, told to the process that will be it."""
    script = f"exec 3<&{fd}; LISTEN_PID=$$ LISTEN_FDS=1 exec \"$@\""
    return (["bash", "-c", script, "activated"], [fd])


def test_a_descriptor_that_does_not_listen_is_refused():
    done = subprocess.run(["bash", "-c", "exec 3</dev/null; LISTEN_PID=$$ LISTEN_FDS=1 exec \"$@\"", "activated",
                           process.THAW, "serve", "--mock"], env=environment(), capture_output=True, timeout=LIMIT,
                          preexec_fn=with_parent())
    assert done.returncode == 2 and b"descriptor 3" in done.stderr, done


# --- jobs of both processes in one store ---------------------------------------------------------------------------------

ASYNC = [("Prefer", "respond-async")]


def with_store(world, up, rerun):
    path = world.config(f"""
        upstreams: {{up: {{url: {up.url}}}}}
        store: sqlite://{world.folder}/thaw.db
        routes: {{{CHAT}: {{rerun: {str(rerun).lower()}}}}}
    """)
    return world.serve(None, "--config", path, workers=2)


def begin_job(world, gw, up):
    count = len(up.requests)
    told = world.connect(gw).ask(post(CHAT, CHAT_REQUEST, ASYNC))
    assert told.status == 202, told
    up.wait(lambda: len(up.requests) == count + 1, "the job's call")
    return told["x-thaw-tape"]


def read_job(world, gw, name):
    return world.connect(gw).ask(request("GET", f"/v1/tapes/{name}"))


def state_of(world, gw, name):
    return world.connect(gw).ask(request("GET", f"/v1/tapes/{name}/status")).json()["state"]


def test_a_job_of_the_old_process_is_read_from_the_new_one_when_it_is_whole(world):
    gate = Gate()

    def script(x):
        x.wait(gate)
        says(CHAT_ANSWER)(x)
    up = world.upstream(script)
    gw = with_store(world, up, rerun=True)
    name = begin_job(world, gw, up)
    old = gw.upgrade()
    assert state_of(world, gw, name) == "running"
    early = read_job(world, gw, name)
    assert early.status == 503 and early["retry-after"] == "1" and early.error()["code"] == "job_elsewhere"
    kept = world.connect(gw).ask(request("DELETE", f"/v1/tapes/{name}"))
    assert kept.status == 503
    gate.open()
    ended(old)
    answer = read_job(world, gw, name)
    assert answer.status == 200 and answer.body == CHAT_ANSWER
    assert len(up.requests) == 1, "it was not run again"


@pytest.mark.parametrize("rerun", [True, False])
def test_a_job_that_the_old_process_did_not_finish_is_interrupted(world, rerun):
    gate = Gate()

    def script(x):
        if x.number == 0:
            x.wait(gate)
        says(CHAT_ANSWER)(x)
    up = world.upstream(script)
    gw = with_store(world, up, rerun)
    name = begin_job(world, gw, up)
    old = gw.upgrade()
    mine = begin_job(world, gw, up)
    old.kill()
    old.wait(LIMIT)
    if rerun:
        poll(lambda: read_job(world, gw, name).status == 200, "the job to have been run again")
        assert read_job(world, gw, name).body == CHAT_ANSWER and len(up.requests) == 3
    else:
        poll(lambda: state_of(world, gw, name) == "interrupted", "the job to be known as interrupted")
        assert len(up.requests) == 2
    answer = read_job(world, gw, mine)
    assert answer.status == 200 and answer.body == CHAT_ANSWER, answer
    gate.open()
