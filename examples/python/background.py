# SPDX-License-Identifier: MIT
"""Begin now, read later: a background response of OpenAI's Responses API, and the same for any other call."""
import os
import time

from openai import OpenAI

client = OpenAI(base_url=os.environ.get("OPENAI_BASE_URL", "http://127.0.0.1:8080/v1"),
                api_key=os.environ.get("OPENAI_API_KEY", "any"))

# OpenAI's own way. The id is all there is to remember; another process may ask.
response = client.responses.create(model="mock-2s", input="a long report", background=True)
print("begun:", response.status)
while response.status in ("queued", "in_progress"):
    time.sleep(0.25)
    response = client.responses.retrieve(response.id)
print(f"{response.status}: {response.output_text}")

# Any call: 202 and where the answer will be.
raw = client.chat.completions.with_raw_response.create(
    model="mock-2s", messages=[{"role": "user", "content": "another one"}], extra_headers={"Prefer": "respond-async"})
tape = raw.headers["x-thaw-tape"]
print("begun:", raw.status_code)
while (state := client.get(f"/tapes/{tape}/status", cast_to=dict)["state"]) == "running":
    time.sleep(0.25)
print(f"{state}: {client.get(f'/tapes/{tape}', cast_to=dict)['choices'][0]['message']['content']}")
