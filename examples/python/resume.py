# SPDX-License-Identifier: MIT
"""A streamed answer that survives lost connections, with nothing but Python: this program cuts its own line twice."""
import http.client
import json
import os
import socket
import sys
import time
import urllib.parse
import uuid

BASE = urllib.parse.urlsplit(os.environ.get("OPENAI_BASE_URL", "http://127.0.0.1:8080/v1"))
KEY = os.environ.get("OPENAI_API_KEY", "any")
WORDS = "Each of these words comes once and in order although the line is cut in the middle of them two times over"


def events(response):
    """(data, id) of server-sent events."""
    data, name = [], None
    for line in response:
        field, _, value = line.decode().rstrip("\r\n").partition(":")
        value = value.removeprefix(" ")
        if field == "data":
            data.append(value)
        elif field == "id":
            name = value
        elif line.strip() == b"" and data:
            yield "\n".join(data), name
            data = []


def answer(question):
    """(chunk, connection) of an answer, each chunk once, however often the connection is lost."""
    body = json.dumps({**question, "stream": True})
    headers = {"Authorization": f"Bearer {KEY}", "Content-Type": "application/json", "Idempotency-Key": str(uuid.uuid4())}
    tape = last = None
    while True:
        connection = http.client.HTTPConnection(BASE.netloc)
        try:
            if last:
                connection.request("GET", f"{BASE.path}/tapes/{tape}", headers={**headers, "Last-Event-ID": last})
            else:  # with the same key and body it is the same call, however often it is sent
                connection.request("POST", f"{BASE.path}/chat/completions", body, headers)
            response = connection.getresponse()
            if response.status == 204:  # there is nothing behind what we have
                return
            if response.status != 200:
                raise SystemExit(f"{response.status}: {response.read().decode()}")
            tape = response.getheader("X-Thaw-Tape")
            for data, last in events(response):
                if data == "[DONE]":
                    return
                yield json.loads(data), connection
        except (OSError, http.client.HTTPException):
            pass
        finally:
            connection.close()
        print(" [cut] ", end="", file=sys.stderr, flush=True)
        time.sleep(0.2)


text, cuts = "", {6, 13}
for chunk, connection in answer({"model": f"mock-{len(WORDS.split())}x50ms", "messages": [{"role": "user", "content": WORDS}]}):
    if "error" in chunk:
        raise SystemExit(f"the answer broke off: {chunk['error']['message']}")
    delta = chunk["choices"][0]["delta"].get("content") or ""
    text += delta
    print(delta, end="", flush=True)
    if len(text.split()) in cuts:
        cuts.remove(len(text.split()))
        connection.sock.shutdown(socket.SHUT_RDWR)
print("\ncomplete, each word once:", text == WORDS)
