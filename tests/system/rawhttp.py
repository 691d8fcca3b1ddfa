# SPDX-License-Identifier: MIT
"""An HTTP/1 client on a raw socket that forgives nothing.

It sends exactly the bytes it is given and parses answers by the letter of RFC 9112: whatever a lenient client would
repair or guess raises Malformed. An answer that ends before it is whole raises Cut, which carries what had arrived.
"""
import json
import re
import select
import socket
import struct

from waiting import LIMIT

TOKEN = rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+"
STATUS_LINE = re.compile(rb"HTTP/1\.([01]) ([1-9][0-9][0-9]) ([\t \x21-\x7e\x80-\xff]*)\Z")
FIELD_LINE = re.compile(rb"(" + TOKEN + rb"):[ \t]*((?:[\x21-\x7e\x80-\xff](?:[\t \x21-\x7e\x80-\xff]*[\x21-\x7e\x80-\xff])?)?)[ \t]*\Z")
CHUNK_LINE = re.compile(rb"([0-9A-Fa-f]{1,16})((?:;[^\r\n]*)?)\Z")


class Malformed(AssertionError):
    """The peer sent something that is not HTTP/1."""


class Cut(Exception):
    """The connection ended before the answer was whole."""

    def __init__(self, answer, how):
        super().__init__(f"the answer was cut ({how}) after {answer!r}")
        self.answer = answer
        self.how = how  # "fin" or "rst"


class Fields(list):
    """(name, value) pairs in their order, as text (latin-1)."""

    def all(self, name):
        return [value for key, value in self if key.lower() == name.lower()]

    def get(self, name, default=None):
        values = self.all(name)
        assert len(values) <= 1, f"{name} occurs {len(values)} times: {values}"
        return values[0] if values else default

    def tokens(self, name):
        return [t.strip().lower() for value in self.all(name) for t in value.split(",") if t.strip()]

    def __contains__(self, name):
        return bool(self.all(name)) if isinstance(name, str) else super().__contains__(name)


def parse_fields(lines):
    fields = Fields()
    for line in lines:
        match = FIELD_LINE.match(line)
        if not match:
            raise Malformed(f"not a field line: {line!r}")
        fields.append((match[1].decode("latin-1"), match[2].decode("latin-1")))
    return fields


class Answer:
    def __init__(self):
        self.version = None      # (1, 0) or (1, 1)
        self.status = None
        self.reason = b""
        self.fields = Fields()
        self.trailers = Fields()
        self.body = bytearray()  # without the framing
        self.interim = []        # the 1xx answers before it
        self.framing = None      # none, length, chunked, close
        self.left = None         # bytes of the body or of the chunk still to come
        self.after_chunk = False
        self.whole = False

    def __repr__(self):
        return f"<{self.status} {dict(self.fields)} {self.framing} {bytes(self.body[:300])!r}{'' if self.whole else ' ...'}>"

    def __getitem__(self, name):
        return self.fields.get(name)

    def json(self):
        assert (self["content-type"] or "").split(";")[0] == "application/json", self
        return json.loads(bytes(self.body))

    def error(self):
        """The error object, after checking that it has OpenAI's shape."""
        document = self.json()
        assert set(document) == {"error"}, document
        return check_error(document["error"])


def check_error(error):
    assert set(error) == {"message", "type", "param", "code"}, error
    assert isinstance(error["message"], str) and error["message"].strip(), error
    assert isinstance(error["type"], str) and error["type"], error
    assert error["param"] is None or isinstance(error["param"], str), error
    assert error["code"] is None or isinstance(error["code"], str), error
    return error


def request(method, target, fields=(), body=None, *, host="thaw.test", version="1.1", length=True):
    """The bytes of a request. body=None: none and no length; a list: chunked, one chunk for each element."""
    lines = [f"{method} {target} HTTP/{version}"]
    if host is not None:
        lines.append(f"Host: {host}")
    lines += [f"{name}: {value}" for name, value in fields]
    chunked = isinstance(body, (list, tuple))
    if chunked:
        lines.append("Transfer-Encoding: chunked")
    elif body is not None and length:
        lines.append(f"Content-Length: {len(body)}")
    head = ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")
    if chunked:
        return head + b"".join(chunk(part) for part in body) + b"0\r\n\r\n"
    return head + (body or b"")


def chunk(data):
    return b"%x\r\n%s\r\n" % (len(data), data)


def post(target, body, fields=(), **more):
    """A POST with a JSON body: bytes go as they are, anything else is dumped."""
    if not isinstance(body, (bytes, bytearray, list, tuple)):
        body = json.dumps(body).encode()
    return request("POST", target, [("Content-Type", "application/json"), *fields], body, **more)


def pieces(data, size):
    return [data[i:i + size] for i in range(0, len(data), size)]


class Client:
    def __init__(self, port, host="127.0.0.1", receive_buffer=None, send_buffer=None, source=None):
        self.sock = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
        if receive_buffer:
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        if send_buffer:
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, send_buffer)
        if source:
            self.sock.bind((source, 0))
        self.sock.settimeout(LIMIT)
        self.sock.connect((host, port))
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.pending = bytearray()  # received, not yet parsed
        self.ended = None           # "fin" or "rst" once the peer is done

    # --- sending -------------------------------------------------------------------------------------------------

    def send(self, data):
        self.sock.sendall(data)
        return self

    def try_send(self, data):
        """Sends what the peer takes: one that answers early and closes is allowed to cut this short."""
        try:
            self.sock.sendall(data)
            return True
        except (BrokenPipeError, ConnectionResetError):
            return False

    def finish_sending(self):
        self.sock.shutdown(socket.SHUT_WR)

    def close(self):
        self.sock.close()

    def reset(self):
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.sock.close()

    # --- receiving -----------------------------------------------------------------------------------------------

    def receive(self):
        """Some more bytes into `pending`; False when there will be none."""
        if self.ended:
            return False
        try:
            data = self.sock.recv(1 << 16)
        except TimeoutError:
            raise AssertionError(f"no byte for {LIMIT:g} s; so far {bytes(self.pending[-500:])!r}") from None
        except ConnectionResetError:
            self.ended = "rst"
            return False
        if not data:
            self.ended = "fin"
            return False
        self.pending += data
        return True

    def _line(self, answer, what):
        while True:
            end = self.pending.find(b"\n")
            if end >= 0:
                break
            if len(self.pending) > 1 << 17:
                raise Malformed(f"endless {what}")
            if not self.receive():
                raise Cut(answer, self.ended)
        line = bytes(self.pending[:end])
        if not line.endswith(b"\r"):
            raise Malformed(f"bare LF after {line!r}")
        line = line[:-1]
        if b"\r" in line or b"\0" in line:
            raise Malformed(f"control character in {line!r}")
        del self.pending[:end + 1]
        return line

    def read_head(self, method="GET"):
        """The head of the next final answer; interim answers before it are collected in `.interim`."""
        interim = []
        while True:
            answer = Answer()
            answer.interim = interim
            line = self._line(answer, "status line")
            match = STATUS_LINE.match(line)
            if not match:
                raise Malformed(f"not a status line: {line!r}")
            status = int(match[2])
            lines = []
            while True:
                line = self._line(answer, "head")
                if not line:
                    break
                lines.append(line)
            answer.version = (1, int(match[1]))
            answer.status = status
            answer.reason = match[3]
            answer.fields = parse_fields(lines)
            if 100 <= status < 200:
                assert status != 101, "protocols were switched"
                if "content-length" in answer.fields or "transfer-encoding" in answer.fields:
                    raise Malformed(f"{status} with a body")
                interim.append(answer)
                continue
            self._framing(answer, method)
            return answer

    @staticmethod
    def _framing(answer, method):
        lengths = answer.fields.all("content-length")
        codings = answer.fields.all("transfer-encoding")
        if len(lengths) > 1 or any(not re.fullmatch(r"[0-9]+", value) for value in lengths):
            raise Malformed(f"Content-Length: {lengths}")
        if lengths and codings:
            raise Malformed("Content-Length and Transfer-Encoding together")
        if codings and codings != ["chunked"]:
            raise Malformed(f"Transfer-Encoding: {codings}")
        if codings and answer.version == (1, 0):
            raise Malformed("Transfer-Encoding in HTTP/1.0")
        if answer.status == 204 and (lengths or codings):
            raise Malformed("204 with a body's framing")
        if method == "HEAD" or answer.status in (204, 304):
            answer.framing, answer.whole = "none", True
        elif codings:
            answer.framing, answer.left = "chunked", None
        elif lengths:
            answer.framing, answer.left = "length", int(lengths[0])
            answer.whole = answer.left == 0
        else:
            answer.framing = "close"

    def read_some(self, answer, sink=None):
        """Some more body bytes, at least one; b"" when the body is whole. Raises Cut. sink: gets them instead of .body."""
        if answer.whole:
            return b""
        data = getattr(self, "_read_" + answer.framing)(answer)
        if sink is not None:
            sink(data)
        else:
            answer.body += data
        return data

    def _take(self, most):
        data = bytes(self.pending[:most])
        del self.pending[:most]
        return data

    def _read_length(self, answer):
        if not self.pending and not self.receive():
            raise Cut(answer, self.ended)
        data = self._take(answer.left)
        answer.left -= len(data)
        answer.whole = answer.left == 0
        return data

    def _read_close(self, answer):
        if not self.pending and not self.receive():
            if self.ended == "rst":
                raise Cut(answer, self.ended)
            answer.whole = True
            return b""
        return self._take(1 << 16)

    def _read_chunked(self, answer):
        if answer.left is None:
            if answer.after_chunk:  # here and not behind the data: data must not wait for what may come later
                line = self._line(answer, "end of a chunk")
                if line:
                    raise Malformed(f"after a chunk's data: {line!r}")
                answer.after_chunk = False
            line = self._line(answer, "chunk line")
            match = CHUNK_LINE.match(line)
            if not match:
                raise Malformed(f"not a chunk line: {line!r}")
            answer.left = int(match[1], 16)
            if answer.left == 0:
                lines = []
                while True:
                    line = self._line(answer, "trailer")
                    if not line:
                        break
                    lines.append(line)
                answer.trailers = parse_fields(lines)
                answer.whole = True
                return b""
        if not self.pending and not self.receive():
            raise Cut(answer, self.ended)
        data = self._take(answer.left)
        answer.left -= len(data)
        if answer.left == 0:
            answer.after_chunk = True
            answer.left = None
        return data

    def read_until(self, answer, mark):
        """Body bytes until `mark` is among them (or the body is whole: then it must be)."""
        while mark not in answer.body:
            if not self.read_some(answer):
                raise AssertionError(f"{mark!r} never came; the body is {bytes(answer.body)!r}")
        return answer

    def read_rest(self, answer, sink=None):
        while not answer.whole:
            self.read_some(answer, sink)
        return answer

    def read(self, method="GET", sink=None):
        """The next answer, whole."""
        return self.read_rest(self.read_head(method), sink)

    def ask(self, data, method=None):
        """Sends a request and reads its whole answer."""
        self.send(data)
        return self.read(method or data.split(b" ", 1)[0].decode("latin-1"))

    def read_cut(self, method="GET"):
        """The next answer, which must be cut short: what there is of it, with .how."""
        answer = None
        try:
            answer = self.read_head(method)
            self.read_rest(answer)
        except Cut as cut:
            partial = answer or cut.answer
            partial.how = cut.how
            return partial
        raise AssertionError(f"an answer that was cut looks complete: {answer!r}")

    # --- the connection's end --------------------------------------------------------------------------------------

    def closed(self):
        """The peer closes the connection and says nothing more."""
        while self.receive():
            pass
        assert not self.pending, f"bytes that belong to no answer: {bytes(self.pending[:500])!r}"
        return self.ended

    def quiet(self):
        """Nothing is waiting to be read at this moment and the connection is open."""
        poller = select.poll()  # select() knows no descriptor beyond 1023
        poller.register(self.sock, select.POLLIN)
        return not poller.poll(0) and not self.pending and not self.ended


# --- event streams -------------------------------------------------------------------------------------------------

def events(body):
    """(type, data) of each event of a stream by the rules of WHATWG HTML 9.2.6; what no blank line ends is dropped."""
    text = bytes(body).decode()
    if text.startswith("\ufeff"):
        text = text[1:]
    result, kind, data = [], "", []
    for line in re.split(r"\r\n|\r|\n", text)[:-1]:
        if not line:
            if data:
                result.append((kind or "message", "\n".join(data)))
            kind, data = "", []
            continue
        name, _, value = line.partition(":")
        value = value[1:] if value.startswith(" ") else value
        if name == "event":
            kind = value
        elif name == "data":
            data.append(value)
    return result
