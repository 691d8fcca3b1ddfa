# SPDX-License-Identifier: MIT
"""The app that froze, and what was done about it: one slow call to an OpenAI-compatible API, run in five ways, and the
endpoint of the incident, which makes five at once. As people write them; README.md walks through.

    OPENAI_BASE_URL=http://127.0.0.1:9000/v1 python3 -m uvicorn app:app --port 8000
"""
import asyncio
import os
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import httpx
from fastapi import FastAPI

URL = os.environ.get("OPENAI_BASE_URL", "https://api.openai.com/v1") + "/chat/completions"
KEY = os.environ.get("OPENAI_API_KEY", "any")
MODEL = os.environ.get("MODEL", "mock-5s")
WORKERS = int(os.environ.get("WORKERS", "10"))

# Without these two settings httpx allows 100 connections and gives up after 5 s: other traps, not this one.
SETTINGS = {"timeout": None, "limits": httpx.Limits(max_connections=None), "headers": {"Authorization": f"Bearer {KEY}"}}
blocking_client = httpx.Client(**SETTINGS)
async_client = httpx.AsyncClient(**SETTINGS)
executor = ThreadPoolExecutor(max_workers=WORKERS)
lock = threading.Lock()
is_processing = False
app = FastAPI()


def question(prompt):
    return {"model": MODEL, "messages": [{"role": "user", "content": prompt}]}


def answer(response):
    response.raise_for_status()
    return response.json()["choices"][0]["message"]["content"]


def ask(prompt):
    """The slow call. It blocks the thread it is made on until the answer is there: 30 to 60 s, in the incident."""
    return answer(blocking_client.post(URL, json=question(prompt)))


async def ask_async(prompt):
    """The same, without a thread."""
    return answer(await async_client.post(URL, json=question(prompt)))


def ask_with_lock(prompt):
    with lock:  # "the client may not be thread-safe"
        return ask(prompt)


def ask_with_flag(prompt):
    global is_processing
    while is_processing:  # "one at a time, to be on the safe side"
        time.sleep(0.1)
    is_processing = True
    try:
        return ask(prompt)
    finally:
        is_processing = False


@app.post("/to_thread")
async def to_thread(prompt: str = "hello", user_id: str = ""):
    """min(32, cpus + 4) at once: 14 on a laptop with 10 cores, 6 in a container with 2."""
    return {"response": await asyncio.to_thread(ask, prompt), "user_id": user_id}


@app.post("/executor")
async def in_executor(prompt: str = "hello", user_id: str = ""):
    """As many at once as somebody decided, and no other work of the app waits behind them."""
    loop = asyncio.get_running_loop()
    return {"response": await loop.run_in_executor(executor, ask, prompt), "user_id": user_id}


@app.post("/async")
async def without_threads(prompt: str = "hello", user_id: str = ""):
    """All at once."""
    return {"response": await ask_async(prompt), "user_id": user_id}


@app.post("/bad/global_lock")
async def global_lock(prompt: str = "hello", user_id: str = ""):
    """One at a time; who waits holds a thread of the default pool."""
    return {"response": await asyncio.to_thread(ask_with_lock, prompt), "user_id": user_id}


@app.post("/bad/global_flag")
async def global_flag(prompt: str = "hello", user_id: str = ""):
    """One at a time (mostly: looking and setting are two steps), in no order."""
    return {"response": await asyncio.to_thread(ask_with_flag, prompt), "user_id": user_id}


PARTS = ["summary", "risks", "costs", "schedule", "title"]


@app.post("/report")
async def report(text: str = "hello", user_id: str = ""):
    """The incident: five calls in parallel for one user, five of the container's six threads for a minute."""
    answers = await asyncio.gather(*(asyncio.to_thread(ask, f"{part}: {text}") for part in PARTS))
    return {"response": dict(zip(PARTS, answers)), "user_id": user_id}


@app.post("/report/fixed")
async def report_fixed(text: str = "hello", user_id: str = ""):
    """The same, and nobody waits for anybody."""
    answers = await asyncio.gather(*(ask_async(f"{part}: {text}") for part in PARTS))
    return {"response": dict(zip(PARTS, answers)), "user_id": user_id}


@app.get("/healthz")
async def healthz():
    return {"status": "ok"}
