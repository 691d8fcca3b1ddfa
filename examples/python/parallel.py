# SPDX-License-Identifier: MIT
"""Several calls in one request, as long as the slowest of them and not as all of them, with nothing but Python."""
import json
import os
import time
import urllib.request

BASE = os.environ.get("OPENAI_BASE_URL", "http://127.0.0.1:8080/v1")
KEY = os.environ.get("OPENAI_API_KEY", "any")


def call(name, model, prompt):
    return {"id": name, "path": "/v1/chat/completions",
            "body": {"model": model, "messages": [{"role": "user", "content": prompt}]}}


def parallel(calls, **how):
    request = urllib.request.Request(f"{BASE}/parallel", json.dumps({"calls": calls, **how}).encode(), {
        "Authorization": f"Bearer {KEY}", "Content-Type": "application/json"})
    with urllib.request.urlopen(request) as response:
        return json.load(response)


def text(result):
    return result["body"]["choices"][0]["message"]["content"] if "body" in result else result["error"]["code"]


PARTS = ["summary", "risks", "costs", "people", "next steps"]
begun = time.monotonic()
answer = parallel([call(part, "mock-2s", f"The {part} of it") for part in PARTS])
for result in answer["results"]:  # in the order they were asked for
    print(f"{result['id']}: {text(result)}")
print(f"five calls of 2 s: {time.monotonic() - begun:.1f} s")

# Whoever answers first; the rest is cancelled. An Idempotency-Key, Prefer: respond-async and tapes work here, too.
answer = parallel([call("slow", "mock-30s", "me"), call("quick", "mock-1s", "no, me")], wait="any")
print({result["id"]: text(result) for result in answer["results"]})

# What is there by the deadline.
answer = parallel([call("late", "mock-60s", "late"), call("in time", "mock-1s", "in time")], deadline="5s")
print({result["id"]: text(result) for result in answer["results"]})
