# SPDX-License-Identifier: MIT
"""For uvicorn: a sync endpoint, which FastAPI runs on one of anyio's 40 threads of the worker."""
import os
import time

from fastapi import FastAPI

SECONDS = float(os.environ["SECONDS"])
app = FastAPI()


@app.post("/chat")
def chat():
    time.sleep(SECONDS)
    return {"ok": True}


@app.get("/healthz")
async def healthz():
    return {"ok": True}
