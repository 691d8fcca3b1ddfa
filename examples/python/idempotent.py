# SPDX-License-Identifier: MIT
"""Retries that are not paid for: OpenAI's SDK gives up after a second and asks again, the answer takes three, and there is
one call. Without the key each attempt would be a call of its own, and none would ever be waited for to its end."""
import os
import uuid

from openai import OpenAI

client = OpenAI(base_url=os.environ.get("OPENAI_BASE_URL", "http://127.0.0.1:8080/v1"),
                api_key=os.environ.get("OPENAI_API_KEY", "any"), timeout=1, max_retries=20)


def ask(key):
    raw = client.chat.completions.with_raw_response.create(
        model="mock-3s", messages=[{"role": "user", "content": "ping"}], extra_headers={"Idempotency-Key": key})
    return raw, raw.parse()


key = str(uuid.uuid4())
raw, answer = ask(key)
print(f"{answer.choices[0].message.content}: the SDK asked again: {raw.retries_taken > 0}")

raw, same = ask(key)  # ten minutes long: the answer of that call, and no other one
print("the same answer again, at once:", same.id == answer.id and raw.headers["idempotent-replayed"] == "true")

_, other = ask(str(uuid.uuid4()))
print("with another key another call:", other.id != answer.id)
