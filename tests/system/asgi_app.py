# SPDX-License-Identifier: MIT
"""An ASGI application: POST answers with what came, ?stream with events."""
import json


async def app(scope, receive, send):
    if scope["type"] != "http":
        return
    body = b""
    while True:
        message = await receive()
        body += message.get("body", b"")
        if not message.get("more_body"):
            break
    stream = scope["query_string"] == b"stream"
    kind = b"text/event-stream" if stream else b"application/json"
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", kind)]})
    for n in range(20 if stream else 0):
        await send({"type": "http.response.body", "body": b"data: %d\n\n" % n, "more_body": True})
    last = b"data: [DONE]\n\n" if stream else json.dumps({"version": scope["http_version"], "length": len(body)}).encode()
    await send({"type": "http.response.body", "body": last})
