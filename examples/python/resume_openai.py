# SPDX-License-Identifier: MIT
"""The same with OpenAI's SDK, which knows nothing of tapes: the call is made again with its key, and is the same call."""
import itertools
import os
import uuid

from openai import OpenAI

client = OpenAI(base_url=os.environ.get("OPENAI_BASE_URL", "http://127.0.0.1:8080/v1"),
                api_key=os.environ.get("OPENAI_API_KEY", "any"))
WORDS = "The first process reads as far as here: whoever has the question and its key reads the rest"


def ask(key):
    """The stream of the answer, from its start. With a key the SDK's own retries are safe, too."""
    return client.chat.completions.create(
        model=f"mock-{len(WORDS.split())}x50ms", messages=[{"role": "user", "content": WORDS}], stream=True,
        extra_headers={"Idempotency-Key": key})


def words(chunk):
    return (chunk.choices[0].delta.content or "") if chunk.choices else ""


key = str(uuid.uuid4())
before = ""
with ask(key) as stream:
    for seen, chunk in enumerate(stream, 1):
        before += words(chunk)
        if before.endswith("here:"):
            break
print("before:", before)

after = ""
with ask(key) as stream:
    for chunk in itertools.islice(stream, seen, None):
        after += words(chunk)
print("after:", after.strip())
print("complete, each word once:", before + after == WORDS)
