# SPDX-License-Identifier: MIT
"""Requests and answers of OpenAI's API as tests use them: with spacing and order that nobody would produce who
parses and prints again, so that byte identity means something."""
import json

CHAT = "/v1/chat/completions"
PROMPT = "PROMPT-canary-7f3a"  # what a user wrote: belongs neither into logs nor into errors
LOOKED_AT = ["/v1/chat/completions", "/v1/completions", "/v1/embeddings", "/v1/responses"]

CHAT_REQUEST = (b'{ "messages" : [ {"role":"user","content":"' + PROMPT.encode() + b' \\u00e9\\u4f60 \xc3\xa9"} ],\n'
                b'\t"temperature":1.0e0 , "model"  :"gpt-x","zz":[1, 2.50,{}] }  \n')
CHAT_ANSWER = (b'{"id":"chatcmpl-1", "object":"chat.completion","created":1,"model":"gpt-x",\n "choices":[{"index":0,'
               b'"message":{"role":"assistant","content":"Hello \\ud83d\\ude00"},"finish_reason":"stop"}],'
               b'"usage":{"prompt_tokens":3,"completion_tokens":2,"total_tokens":5}}')
STREAM_REQUEST = (b'{"model":"gpt-x", "stream" : true,"messages":[{"role":"user","content":"' + PROMPT.encode() +
                  b'"}]}')


def event(text, **more):
    delta = {"content": text}
    document = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "model": "gpt-x",
                "choices": [{"index": 0, "delta": delta, "finish_reason": None}], **more}
    return b"data: " + json.dumps(document).encode() + b"\n\n"


LAST = (b'data: {"id":"chatcmpl-1","object":"chat.completion.chunk","created":1,"model":"gpt-x","choices":'
        b'[{"index":0,"delta":{},"finish_reason":"stop"}]}\n\n')
DONE = b"data: [DONE]\n\n"
STREAM = [event("Hel"), event("lo "), event("you"), LAST, DONE]
# What an upstream says that answered 200 before it knew better.
REFUSAL = b'data: {"error":{"message":"slow down","type":"rate_limit_error","param":null,"code":"rate_limit_exceeded"}}\n\n'
