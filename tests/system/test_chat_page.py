# SPDX-License-Identifier: MIT
"""examples/chat in a real browser, and a browser's own EventSource: what a user sees when pages are reloaded, connections
are cut, tabs opened. The upstream says a word when the test lets it, so that everything happens in the middle."""
import functools
import http.server
import json
import random
import re
import signal
import socket
import threading

import pytest

from browser import LIMIT
from openai_api import DONE, LAST, event
from process import ROOT, free_port
from rawhttp import request
from upstream import Gate
from waiting import Board, poll

WORDS = [f"w{i}" for i in range(60)]
READERS = ["fetch", "eventsource"]
BUSY = "document.querySelector('#ask').hidden"


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_):
        pass


@pytest.fixture(scope="session")
def site():
    """The page's own origin."""
    folder = functools.partial(Quiet, directory=ROOT / "examples" / "chat")
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), folder) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join(LIMIT)


class Writer:
    """The script of an upstream that says WORDS as far as it is let, then that it is done. Each word once, each an event."""

    def __init__(self, words=WORDS):
        self.words = words
        self.gates = [Gate() for _ in range(len(words) + 1)]
        self.said = 0

    def __call__(self, x):
        x.wait(self.gates[0], LIMIT)
        x.stream_head()
        for word, gate in zip(self.words, self.gates[1:], strict=True):
            x.wait(gate, LIMIT)
            x.chunk(event(word + " "))
        x.chunk(LAST + DONE).last_chunk()

    def say(self, words):
        """Up to so many in all; the head before the first."""
        while self.said <= words:
            self.gates[self.said].open()
            self.said += 1


def text(words):
    return "".join(word + " " for word in words)


class Chat:
    """The page in one tab."""

    def __init__(self, tab, url, gateway, by="fetch", model="m"):
        self.page = tab(url)
        self.page.js(f"localStorage.setItem('thaw-chat/settings', JSON.stringify("
                     f"{{gateway: '{gateway}', model: '{model}', by: '{by}'}}))")
        self.page.reload()

    def ask(self, question="speak"):
        self.page.js(f"(document.querySelector('#question').value = {json.dumps(question)},"
                     f"document.querySelector('#composer').requestSubmit())")
        return self

    def shows(self, words):
        """Exactly these: a word that came twice or not at all is seen."""
        self.page.wait(f"document.querySelector('li:last-child .text')?.textContent === {json.dumps(text(words))}")

    def ends(self):
        self.page.wait(f"!{BUSY}")
        assert not self.page.problems, self.page.problems

    def says(self, words):
        self.page.wait(f"document.querySelector('li:last-child').innerText.includes({json.dumps(words)})")

    def stop(self):
        self.page.click("#stop")


def tape_of(chat):
    return chat.page.js("Object.entries(localStorage).map(([name, value]) => name.startsWith('thaw-chat/') && "
                        "JSON.parse(value).tape).find(Boolean)")


class Scene:
    """An upstream, a gateway in front of it that lets the page call, and the page."""

    def __init__(self, world, site, tab):
        self.world, self.site, self.tab = world, site, tab

    def gateway(self, to, **more):
        return self.world.serve(config=f"""
            upstreams:
              them: {{url: '{to.url}{'' if to.url.endswith('/v1') else '/v1'}'}}
            cors: ['{self.site}']
            tape: {{read: id}}
            """, **more)

    def start(self, script, through=None, **more):
        self.upstream = self.world.upstream(script)
        self.gw = self.gateway(self.upstream)
        self.at = through(self.gw.port) if through else self.gw
        if through:
            self.world.other.append(self.at)
        return self.chat(**more)

    def chat(self, **more):
        return Chat(self.tab, self.site, self.at.url, **more)


@pytest.fixture
def scene(world, site, tab):
    return Scene(world, site, tab)


# --- reloads -----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("by", READERS)
@pytest.mark.parametrize("seed", range(3))
def test_an_answer_survives_reloads(scene, by, seed):
    writer = Writer()
    chat = scene.start(writer, by=by).ask()
    for words in sorted(random.Random(seed).sample(range(1, len(WORDS)), 3)):
        writer.say(words)
        chat.shows(WORDS[:words])
        chat.page.reload()
        chat.shows(WORDS[:words])
    writer.say(len(WORDS))
    chat.ends()
    chat.shows(WORDS)
    chat.page.reload()
    chat.shows(WORDS)
    assert len(scene.upstream.requests) == 1


def test_what_came_while_nobody_was_there_is_shown_at_once(scene):
    writer = Writer()
    chat = scene.start(writer).ask()
    writer.say(20)
    chat.shows(WORDS[:20])
    tape = tape_of(chat)
    chat.page.go("about:blank")
    writer.say(len(WORDS))
    client = scene.world.connect(scene.gw)
    poll(lambda: client.ask(request("GET", f"/v1/tapes/{tape}/status")).json()["state"] == "complete", "the answer's end")
    chat.page.go(scene.site)
    chat.ends()
    chat.shows(WORDS)
    assert len(scene.upstream.requests) == 1


@pytest.mark.parametrize("by", READERS)
def test_a_reload_before_the_answer_begins(scene, by):
    writer = Writer()
    chat = scene.start(writer, by=by).ask()
    scene.upstream.wait_requests(1)
    chat.page.reload()
    chat.says("waiting" if by == "fetch" else "")
    writer.say(len(WORDS))
    chat.ends()
    chat.shows(WORDS)
    assert len(scene.upstream.requests) == 1


def test_the_conversation_goes_on(scene):
    writers = [Writer(WORDS[:3]), Writer(WORDS[3:6])]
    chat = scene.start(lambda x: writers[x.number](x)).ask("first")
    writers[0].say(3)
    chat.ends()
    chat.page.reload()
    chat.ask("second")
    writers[1].say(3)
    chat.ends()
    chat.shows(WORDS[3:6])
    assert [m["content"] for m in scene.upstream.requests[1].json()["messages"]] == ["first", text(WORDS[:3]), "second"]


def test_an_answer_is_shown_as_it_is(scene):
    words = ["<img src=x onerror=alert(1)>", "a\u2028b", "é你😀", "line\nline", "&amp;"]
    writer = Writer(words)
    chat = scene.start(writer).ask()
    writer.say(len(words))
    chat.ends()
    chat.shows(words)


# --- the network -------------------------------------------------------------------------------------------------------------


class Cutter:
    """Between browser and gateway. Breaks connections off in the middle of the events whose numbers are in `cuts`."""

    def __init__(self, cuts, port):
        self.cuts = list(cuts)
        self.port = port
        self.board = Board()
        self.asked, self.answered = bytearray(), bytearray()
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self.listener.getsockname()[1]}"
        self.sockets = []
        self.closed = False
        self.threads = [threading.Thread(target=self._accept, daemon=True)]
        self.threads[0].start()

    def _accept(self):
        while not self.closed:
            try:
                client, _ = self.listener.accept()
            except OSError:
                return
            server = socket.create_connection(("127.0.0.1", self.port))
            self.sockets += [client, server]
            for pair in ((client, server, self.asked, False), (server, client, self.answered, True)):
                thread = threading.Thread(target=self._carry, args=pair, daemon=True)
                self.threads.append(thread)
                thread.start()

    def _carry(self, source, to, log, cuts):
        start = len(log)
        try:
            while data := source.recv(1 << 16):
                with self.board.changed:
                    log += data
                    self.board.announce()
                    cut = cuts and self.cuts and re.compile(rb"id: \w+:%d\b" % self.cuts[0]).search(log, start)
                    if cut:
                        self.cuts.pop(0)
                        data = data[:max(0, len(data) - (len(log) - cut.end()))]
                to.sendall(data)
                if cut:
                    break
        except OSError:
            pass
        for end in (source, to):
            try:
                end.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass

    def close(self):
        self.closed = True
        self.listener.shutdown(socket.SHUT_RDWR)
        for end in (self.listener, *self.sockets):
            try:
                end.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass
        for thread in self.threads:
            thread.join(LIMIT)
        for end in (self.listener, *self.sockets):
            end.close()


@pytest.mark.parametrize("by", READERS)
def test_connections_that_are_cut(scene, by):
    writer = Writer()
    chat = scene.start(writer, through=functools.partial(Cutter, [6, 7, 31]), by=by).ask()
    writer.say(4)
    chat.shows(WORDS[:4])
    writer.say(len(WORDS))
    chat.ends()
    chat.shows(WORDS)
    assert not scene.at.cuts and len(scene.upstream.requests) == 1
    went_on = re.findall(rb"(?i)last-event-id: \w+:(\d+)", scene.at.asked)
    assert went_on and all(3 <= int(n) < 60 for n in went_on), scene.at.asked


def test_an_eventsource_of_the_browsers_own_stops_at_the_end(scene, world):
    """It comes back after each cut and after the end, says where it was, and 204 tells it that this was all."""
    writer = Writer()
    page = scene.start(writer, through=functools.partial(Cutter, [7, 40])).page
    answer = world.connect(scene.gw).ask(request("POST", "/v1/chat/completions", [
        ("Content-Type", "application/json"), ("Prefer", "respond-async")],
        b'{"model":"m","stream":true,"messages":[{"role":"user","content":"speak"}]}'))
    assert answer.status == 202
    page.js(f"""(() => {{
        window.heard = [];
        window.source = new EventSource('{scene.at.url}{answer["location"]}');
        source.onmessage = event => heard.push(event.lastEventId.split(':')[1] + event.data.slice(0, 6));
    }})()""")
    writer.say(len(WORDS))
    page.wait("source.readyState === EventSource.CLOSED")
    ends = ['{"id":'] * 61 + ["[DONE]"]
    assert page.js("heard") == [f"{n}{data}" for n, data in enumerate(ends)]
    assert not scene.at.cuts and b"HTTP/1.1 204 " in scene.at.answered


def test_a_gateway_that_is_not_there_yet(scene):
    writer = Writer()
    port = free_port()
    scene.upstream = scene.world.upstream(writer)
    writer.say(len(WORDS))

    class At:
        url = f"http://127.0.0.1:{port}"
    scene.at = At
    chat = scene.chat().ask()
    chat.says("no connection")
    scene.gateway(scene.upstream, port=port)
    chat.ends()
    chat.shows(WORDS)
    assert len(scene.upstream.requests) == 1


# --- tabs, and the end -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("by", READERS)
def test_a_second_tab_shows_it_live(scene, by):
    writer = Writer()
    one, early = scene.start(writer, by=by), scene.chat(by=by)
    one.ask()
    writer.say(10)
    one.shows(WORDS[:10])
    early.shows(WORDS[:10])
    late = scene.chat(by=by)
    late.shows(WORDS[:10])
    writer.say(30)
    for chat in (one, early, late):
        chat.shows(WORDS[:30])
    one.page.close()
    writer.say(len(WORDS))
    for chat in (early, late):
        chat.ends()
        chat.shows(WORDS)
    assert len(scene.upstream.requests) == 1


@pytest.mark.parametrize("by", READERS)
@pytest.mark.parametrize("words", [0, 10], ids=["before_it_begins", "in_the_middle"])
def test_stop_ends_it_upstream_and_in_every_tab(scene, by, words):
    writer = Writer()
    one = scene.start(writer, by=by).ask()
    other = scene.chat(by=by)
    call = scene.upstream.wait_requests(1)[0]
    if words:
        writer.say(words)
        one.shows(WORDS[:words])
        other.shows(WORDS[:words])
    (other if words else one).stop()
    scene.upstream.wait_gone(call)
    for chat in (one, other):
        chat.ends()
        chat.says("stopped")
        chat.page.reload()
        chat.ends()
        chat.says("stopped")
    assert len(scene.upstream.requests) == 1


def test_stop_by_the_mocks_own_journal(scene, world):
    mock = world.mock()
    scene.at = scene.gateway(mock)
    chat = scene.chat(model="mock-1000x50ms").ask("word")
    chat.says("event 3")
    chat.stop()
    chat.ends()
    client = world.connect(mock)
    lines = client.ask(request("GET", "/mock/journal")).body.decode().splitlines()
    call, sums = map(json.loads, lines)
    assert call["client_gone_ns"] and (sums["calls"], sums["in_flight"]) == (1, 0)


def test_a_new_chat_ends_the_one_that_runs(scene):
    writer = Writer()
    chat = scene.start(writer).ask()
    writer.say(5)
    chat.shows(WORDS[:5])
    chat.page.click("#new")
    scene.upstream.wait_gone(scene.upstream.wait_requests(1)[0])
    chat.page.wait("!document.querySelector('li') && !document.querySelector('#empty').hidden")
    chat.page.reload()
    chat.page.wait("!document.querySelector('#empty').hidden")


# --- what can go wrong, in words -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("by", READERS)
def test_an_answer_that_is_kept_no_more(scene, world, by):
    writer = Writer()
    chat = scene.start(writer, by=by).ask()
    writer.say(5)
    chat.shows(WORDS[:5])
    tape = tape_of(chat)
    chat.page.go("about:blank")
    client = world.connect(scene.gw)
    for deleted in (False, True):  # what runs is cancelled, what has ended is forgotten
        assert client.ask(request("DELETE", f"/v1/tapes/{tape}")).json()["deleted"] == deleted
    chat.page.go(scene.site)
    chat.says("is gone now")
    chat.ends()
    chat.shows(WORDS[:5])


def test_a_gateway_that_was_started_anew(scene):
    writers = [Writer(), Writer(WORDS[:3])]
    chat = scene.start(lambda x: writers[x.number](x)).ask()
    writers[0].say(5)
    chat.shows(WORDS[:5])
    chat.page.go("about:blank")
    scene.gw.signal(signal.SIGTERM)
    scene.gw.wait_text("a second signal stops at once")
    scene.gw.signal(signal.SIGTERM)
    scene.gw.wait_end()
    scene.gw.judged = True
    scene.gateway(scene.upstream, port=scene.gw.port)
    chat.page.go(scene.site)
    chat.says("does not know this answer")
    chat.ends()
    writers[1].say(3)
    chat.page.click("li:last-child .problem button")
    chat.shows(WORDS[:3])
    chat.ends()


@pytest.mark.parametrize("by", READERS)
def test_a_call_that_is_refused(scene, world, by):
    scene.at = scene.gateway(world.mock())
    chat = scene.chat(model="mock-err-429", by=by).ask()
    chat.says("Too much at once; try again in")
    chat.ends()


@pytest.mark.parametrize("by", READERS)
def test_an_answer_that_is_cut_upstream(scene, by):
    def script(x):
        x.stream_head().chunk(event("half "))
        x.reset()
    chat = scene.start(script, by=by).ask()
    chat.says("The answer broke off")
    chat.ends()
    chat.shows(["half"])
    chat.page.reload()
    chat.says("The answer broke off")
    assert len(scene.upstream.requests) == 1


def test_a_page_that_may_not_call(scene, world):
    scene.upstream = world.upstream()
    scene.at = world.serve(scene.upstream)
    chat = scene.chat().ask()
    chat.says("is this page in its cors")
    assert not scene.upstream.requests
