# SPDX-License-Identifier: MIT
"""An upstream that does as it is told, byte for byte, and remembers everything.

Upstream(script) listens on loopback. For every request whose head has arrived it records a Request (raw bytes, the
connection it came on, whether its body became complete, whether the peer left) and runs `script(x)` on that
connection's own thread; x is the Exchange, with which the script reads the body, sends raw bytes, waits for a Gate,
closes, resets. A script that does not read the body gets it read for it first, unless it is marked @before_body.
"""
import hashlib
import json
import os
import re
import select
import socket
import ssl
import struct
import threading

from rawhttp import Fields, chunk, parse_fields
from waiting import LIMIT, QUIET, Board

KEEP = 4 << 20  # bytes of a body that are kept; more is only counted and hashed


class Gone(Exception):
    """The peer closed its connection: nothing a script could still do."""


class Gate:
    """Opened once by the test; scripts wait for it."""

    def __init__(self):
        self.fd = os.eventfd(0, os.EFD_NONBLOCK)

    def open(self):
        os.eventfd_write(self.fd, 1)

    def __del__(self):
        os.close(self.fd)


class Request:
    def __init__(self, connection, head):
        self.connection = connection
        self.head = head                 # raw, with the empty line
        self.raw = bytearray(head)       # with everything that followed, as it came (up to KEEP)
        self.body = bytearray()          # decoded (up to KEEP)
        self.length = 0                  # of the decoded body
        self.hash = hashlib.sha256()
        self.trailers = Fields()
        self.complete = False
        self.gone = False                # the peer left before the script was done with this request
        line, *lines = head[:-4].split(b"\r\n")
        assert re.fullmatch(rb"[A-Z]+ [\x21-\x7e]+ HTTP/1\.1", line), f"thaw sent {line!r}"
        self.method, self.target, _ = line.decode("latin-1").split(" ")
        self.fields = parse_fields(lines)

    def __getitem__(self, name):
        return self.fields.get(name)

    def __repr__(self):
        return f"<{self.method} {self.target} {dict(self.fields)} {self.length} bytes{'' if self.complete else ' ...'}>"

    def json(self):
        return json.loads(bytes(self.body))


class Connection:
    def __init__(self, upstream, sock, number):
        self.upstream = upstream
        self.sock = sock
        self.number = number
        self.buffer = bytearray()        # received, not yet parsed
        self.received = bytearray()      # all of it (up to KEEP)
        self.closed = None               # how the peer ended it: "fin" or "rst"; None while it is open
        self.over = False                # this side has ended it, or both
        self.handshake = None            # TLS: "ok" or what went wrong
        self.resumed = False             # TLS: from a session of an earlier connection

    def receive(self):
        """Blocks for more bytes; raises Gone at the end."""
        if self.closed:
            raise Gone
        try:
            data = self.sock.recv(1 << 18)
        except (ConnectionResetError, BrokenPipeError, ssl.SSLError):
            data, how = b"", "rst"
        else:
            how = "fin"
        with self.upstream.board.changed:
            if not data:
                self.closed = how
            self.buffer += data
            if len(self.received) < KEEP:
                self.received += data
            self.upstream.board.announce()
        if not data:
            raise Gone

    def ready(self, fd=-1, timeout=LIMIT, patient=False):
        """Waits for bytes (or the end) or the gate's descriptor: True if it was the descriptor. When nothing came in
        time: None if patient."""
        poller = select.poll()
        poller.register(self.sock, select.POLLIN)
        if fd >= 0:
            poller.register(fd, select.POLLIN)
        if isinstance(self.sock, ssl.SSLSocket) and self.sock.pending():
            return False
        found = dict(poller.poll(timeout * 1000))
        if not found and patient:
            return None
        if not found:
            raise AssertionError(f"the upstream's script waited {timeout:g} s in vain")
        return fd in found


class Exchange:
    """What a script has in hand."""

    def __init__(self, connection, request):
        self.connection = connection
        self.upstream = connection.upstream
        self.request = request
        self.number = connection.upstream.requests.index(request)  # of the request, over all connections

    # --- reading ---------------------------------------------------------------------------------------------------

    def _need(self, count):
        while len(self.connection.buffer) < count:
            self.connection.receive()

    def _line(self):
        while b"\n" not in self.connection.buffer:
            self.connection.receive()
        line, _, rest = bytes(self.connection.buffer).partition(b"\n")
        assert line.endswith(b"\r"), f"thaw sent a bare LF: {line!r}"
        self._take(len(line) + 1)
        return line[:-1]

    def _take(self, count):
        request = self.request
        data = bytes(self.connection.buffer[:count])
        del self.connection.buffer[:count]
        if len(request.raw) < KEEP:
            request.raw += data
        return data

    def _body(self, data):
        request = self.request
        with self.upstream.board.changed:
            request.length += len(data)
            request.hash.update(data)
            if len(request.body) < KEEP:
                request.body += data
            self.upstream.board.announce()

    def _data(self, length):
        while length:
            if not self.connection.buffer:
                self.connection.receive()
            data = self._take(length)
            length -= len(data)
            self._body(data)

    def read_body(self):
        request = self.request
        if request.complete:
            return request
        codings = request.fields.all("transfer-encoding")
        lengths = request.fields.all("content-length")
        assert not (codings and lengths), f"thaw sent both: {request!r}"
        assert len(lengths) <= 1 and codings in ([], ["chunked"]), request
        if codings:
            while True:
                line = self._line()
                assert re.fullmatch(rb"[0-9a-fA-F]+", line), f"thaw sent the chunk line {line!r}"
                size = int(line, 16)
                if not size:
                    break
                self._data(size)
                assert self._line() == b"", "thaw sent a chunk without its end"
            lines = []
            while True:
                line = self._line()
                if not line:
                    break
                lines.append(line)
            request.trailers = parse_fields(lines)
        elif lengths:
            assert re.fullmatch(r"[0-9]+", lengths[0]), request
            self._data(int(lengths[0]))
        with self.upstream.board.changed:
            request.complete = True
            self.upstream.board.announce()
        return request

    # --- answering -------------------------------------------------------------------------------------------------

    def send(self, data):
        try:
            self.connection.sock.sendall(data)
        except (OSError, ssl.SSLError) as problem:
            if isinstance(problem, TimeoutError):
                raise
            self.connection.closed = self.connection.closed or "rst"
            raise Gone from None
        return self

    def head(self, status=200, fields=(), reason="Fine"):
        lines = [f"HTTP/1.1 {status} {reason}", *(f"{name}: {value}" for name, value in fields)]
        return self.send(("\r\n".join(lines) + "\r\n\r\n").encode("latin-1"))

    def answer(self, status=200, body=b"", fields=(), kind="application/json"):
        """A plain answer with a length, head and body in one write."""
        lines = [f"HTTP/1.1 {status} Fine", f"Content-Type: {kind}", f"Content-Length: {len(body)}",
                 *(f"{name}: {value}" for name, value in fields)]
        return self.send(("\r\n".join(lines) + "\r\n\r\n").encode("latin-1") + body)

    def stream_head(self, fields=(), status=200):
        return self.head(status, [("Content-Type", "text/event-stream"), ("Transfer-Encoding", "chunked"), *fields])

    def chunk(self, data):
        return self.send(chunk(data))

    def last_chunk(self):
        return self.send(b"0\r\n\r\n")

    def wait(self, gate, timeout=LIMIT):
        """Until the test opens the gate; Gone if the peer leaves first."""
        while not self.connection.ready(gate.fd, timeout):
            self.connection.receive()

    def hang(self):
        """Says nothing until the peer leaves."""
        while True:
            self.connection.ready(timeout=2 * LIMIT)
            self.connection.receive()

    def send_until_stalled(self, source):
        """Sends the pieces of an iterable. When the peer takes nothing for QUIET seconds, upstream.stalls
        gets the bytes sent so far under the connection's number; then it goes on as soon as it can. Returns the number of bytes sent."""
        sock, sent = self.connection.sock, 0
        poller = select.poll()
        poller.register(sock, select.POLLOUT)
        for piece in source:
            view = memoryview(piece)
            while view:
                if not poller.poll(QUIET * 1000):
                    with self.upstream.board.changed:
                        self.upstream.stalls.setdefault(self.connection.number, sent)
                        self.upstream.board.announce()
                    if not poller.poll(3 * LIMIT * 1000):
                        raise AssertionError("nobody ever read the rest")
                try:
                    done = sock.send(view[:1 << 16], socket.MSG_DONTWAIT)
                except BlockingIOError:
                    continue
                except OSError:
                    self.connection.closed = self.connection.closed or "rst"
                    raise Gone from None
                sent += done
                view = view[done:]
        return sent

    # --- ending ----------------------------------------------------------------------------------------------------

    def close(self):
        """FIN (with TLS: without close_notify)."""
        sock = self.connection.sock
        if isinstance(sock, ssl.SSLSocket):
            sock = socket.socket(fileno=sock.detach())
            sock.settimeout(3 * LIMIT)
            self.connection.sock = sock
        try:
            sock.shutdown(socket.SHUT_WR)
        except OSError:  # the peer was faster
            pass
        self._over()
        return self

    def reset(self):
        sock = self.connection.sock
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        sock.close()
        self._over()
        return self

    def drop(self):
        """Closes both directions, as a server does with an idle connection: what arrives later is answered with a
        reset and no program ever sees it."""
        self.connection.sock.close()
        self._over()
        return self

    def _over(self):
        with self.upstream.board.changed:
            self.connection.over = True
            self.upstream.board.announce()


def before_body(script):
    """Marks a script that starts as soon as the head is there."""
    script.before_body = True
    return script


class Upstream:
    def __init__(self, script=None, *, tls=None, on_connect=None, host="127.0.0.1", send_buffer=None,
                 receive_buffer=None, accept=True):
        self.script = script or says(b'{"ok":true}')
        self.on_connect = on_connect     # called with (connection) before anything is read
        self.tls = tls                   # an ssl.SSLContext
        self.board = Board()
        self.requests = []
        self.connections = []
        self.stalls = {}                 # connection number -> bytes sent when it first stalled
        self.problems = []               # exceptions of scripts, for the end of the test
        self.ending = False
        self.listener = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
        if send_buffer:
            self.listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, send_buffer)
        if receive_buffer:
            self.listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        self.listener.bind((host, 0))
        self.listener.listen(512)
        self.host = host
        self.port = self.listener.getsockname()[1]
        self.threads = []
        if accept:
            self.acceptor = threading.Thread(target=self._accept, daemon=True)
            self.acceptor.start()

    @property
    def url(self):
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"http{'s' if self.tls else ''}://{host}:{self.port}/v1"

    def _accept(self):
        while True:
            try:
                sock, _ = self.listener.accept()
            except OSError:
                return
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            sock.settimeout(3 * LIMIT)
            with self.board.changed:
                connection = Connection(self, sock, len(self.connections))
                self.connections.append(connection)
                thread = threading.Thread(target=self._serve, args=(connection,), daemon=True)
                thread.start()  # before anybody can find it, who may want to join it
                self.threads.append(thread)
                self.board.announce()

    def _serve(self, connection):
        try:
            if self.tls:
                try:
                    connection.sock = self.tls.wrap_socket(connection.sock, server_side=True)
                    connection.handshake = "ok"
                    connection.resumed = connection.sock.session_reused
                except (OSError, ssl.SSLError) as problem:
                    connection.handshake = str(problem)
                    connection.closed = "handshake"
                    return
            if self.on_connect:
                self.on_connect(connection)
            while not connection.over and not connection.closed:
                self._one(connection)
            # This side is done: what the peer does is still of interest.
            while not connection.closed and connection.sock.fileno() >= 0:
                connection.receive()
        except Gone:
            pass
        except BaseException as problem:  # told at the end of the test
            if not self.ending:
                self.problems.append(problem)
        finally:
            with self.board.changed:
                connection.over = True
                connection.sock.close()
                self.board.announce()

    def _one(self, connection):
        while b"\r\n\r\n" not in connection.buffer:
            assert len(connection.buffer) < 1 << 20, "thaw sent an endless head"
            connection.receive()
        head = bytes(connection.buffer[:connection.buffer.index(b"\r\n\r\n") + 4])
        del connection.buffer[:len(head)]
        request = Request(connection, head)
        with self.board.changed:
            self.requests.append(request)
            exchange = Exchange(connection, request)
            script = self.script         # as of now: a test may put in another one later
            self.board.announce()
        try:
            if getattr(script, "before_body", False):
                script(exchange)
                if not connection.over:
                    exchange.read_body()
            else:
                exchange.read_body()
                script(exchange)
        except Gone:
            with self.board.changed:
                request.gone = True
                self.board.announce()
            raise

    # --- what tests ask ----------------------------------------------------------------------------------------------

    def wait(self, predicate, what, limit=LIMIT):
        return self.board.wait(predicate, what, limit)

    def wait_requests(self, count=1, complete=True):
        """The first `count` requests, as soon as there are as many."""
        def enough():
            found = [r for r in self.requests if r.complete or not complete]
            return found[:count] if len(found) >= count else None
        return self.wait(enough, f"{count} requests at the upstream")

    def only(self):
        """The one and only request."""
        assert len(self.requests) == 1, self.requests
        return self.requests[0]

    def wait_gone(self, request):
        """The peer closes the connection of this request."""
        self.wait(lambda: request.connection.closed, f"the upstream connection of {request!r} to be closed")
        return request.connection.closed

    def received(self):
        """All bytes that ever arrived (decrypted)."""
        return b"".join(bytes(c.received) for c in self.connections)

    def stop_listening(self):
        self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()

    def stop(self):
        self.ending = True
        try:
            self.listener.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass
        self.listener.close()
        with self.board.changed:
            connections = list(self.connections)
        for connection in connections:
            try:
                connection.sock.shutdown(socket.SHUT_RDWR)
            except (OSError, ValueError):
                pass
        for thread in self.threads:
            thread.join(LIMIT)
            assert not thread.is_alive(), "an upstream thread does not end"
        if self.problems:
            raise self.problems[0]


def refused_port():
    """A port of loopback on which nothing listens: bound, so that nobody else can take it."""
    sock = socket.socket()
    sock.bind(("127.0.0.1", 0))
    return sock, sock.getsockname()[1]


# --- scripts that many tests need --------------------------------------------------------------------------------------

def says(body=b'{"ok":true}', status=200, fields=(), kind="application/json"):
    def script(x):
        x.answer(status, body, fields, kind)
    return script


def sends(raw, then="keep"):
    """Exactly these bytes; then "keep" the connection, "close" or "reset" it, or "hang"."""
    def script(x):
        if raw:
            x.send(raw)
        if then != "keep":
            getattr(x, then)()
    return script


def streams(parts, fields=(), gates=()):
    """An event stream, one chunk for each part; before part n it waits for gates[n] if there is one."""
    def script(x):
        x.stream_head(fields)
        for number, part in enumerate(parts):
            if number < len(gates) and gates[number]:
                x.wait(gates[number])
            x.chunk(part)
        x.last_chunk()
    return script


def silent_streams(parts, seconds=3):
    """An event stream that says nothing for so long: before its head, and once more behind its first part."""
    def script(x):
        x.connection.ready(timeout=seconds, patient=True)
        x.stream_head().chunk(parts[0])
        x.connection.ready(timeout=seconds, patient=True)
        for part in parts[1:]:
            x.chunk(part)
        x.last_chunk()
    return script
