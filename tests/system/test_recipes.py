# SPDX-License-Identifier: MIT
"""Prompts as paths: /chat as a person types it, and recipes of a configuration."""
import json

import pytest

from rawhttp import events
from test_curl import JSON, curl

RECIPES = """
    upstreams: {mock: {url: mock}}
    default_model: mock-10ms
    recipes:
      /review:
        calls:
          summary: {prompt: "Summarise: {{text}}"}
          risks: {prompt: "List the risks in: {{text}}"}
      /mixed:
        calls:
          good: {prompt: "{{text}}"}
          bad: {model: mock-err-429, prompt: "{{text}}"}
"""


@pytest.mark.parametrize("arguments", [
    ["-X", "POST", "/chat?prompt=hi"],
    ["/chat", *JSON, "-d", '{"prompt":"hi"}'],
    ["/chat", "-d", "prompt=hi"],
    ["/chat", "-d", '{"prompt":"hi"}'],
    ["/chat", "--data-urlencode", "prompt=hi"],
    ["/chat", "--json", '{"prompt":"hi"}'],
])
def test_chat_needs_no_configuration(world, arguments):
    gw = world.serve(None, "--mock")
    arguments = [gw.url + a if a.startswith("/") else a for a in arguments]
    assert json.loads(curl(*arguments)) == {"response": "hi"}


def test_what_is_sent_comes_back_as_it_was(world):
    text = 'quotes " and \\ and {{prompt}} and\nlines and é 你 😀 \u0001'
    gw = world.serve(None, "--mock")
    assert json.loads(curl(gw.url + "/chat", *JSON, "-d", json.dumps({"prompt": text}))) == {"response": text}
    assert json.loads(curl(gw.url + "/chat", "--data-urlencode", f"prompt={text}")) == {"response": text}


def test_several_prompts(world):
    gw = world.serve(config=RECIPES)
    assert json.loads(curl(gw.url + "/review", "-d", "text=it")) == {
        "response": {"summary": "Summarise: it", "risks": "List the risks in: it"}}
    mixed = json.loads(curl(gw.url + "/mixed", "-d", "text=it"))
    assert mixed["response"] == {"good": "it", "bad": None}
    assert mixed["errors"]["bad"]["code"] == "rate_limit_exceeded"


def test_a_stream(world):
    gw = world.serve(config=RECIPES)
    got = events(curl("-N", gw.url + "/review?stream=true", "-d", "text=it").encode())
    assert got[-1] == ("done", '{"response":{"summary":"Summarise: it","risks":"List the risks in: it"}}')
    for name, whole in (("summary", "Summarise: it"), ("risks", "List the risks in: it")):
        chunks = [json.loads(data) for kind, data in got if kind == "chunk"]
        assert "".join(c["text"] for c in chunks if c["name"] == name) == whole


def test_what_is_missing_is_named(world):
    gw = world.serve(config=RECIPES)
    error = json.loads(curl(gw.url + "/review", *JSON, "-d", "{}"))["error"]
    assert error["param"] == "text" and "'text'" in error["message"] and error["code"] == "missing_value"


def test_the_model_comes_by_option_or_request(world):
    mock = world.mock()
    url = mock.url + "/v1"
    without = world.serve(url)
    error = json.loads(curl(without.url + "/chat", "-d", "prompt=x"))["error"]
    assert "--model" in error["message"] and error["param"] == "model"
    assert json.loads(curl(without.url + "/chat", "-d", "prompt=x&model=mock-1ms")) == {"response": "x"}
    assert json.loads(curl(world.serve(url, "--model", "mock-1ms").url + "/chat", "-d", "prompt=x")) == {"response": "x"}


def test_get_says_what_to_do(world):
    gw = world.serve(None, "--mock")
    assert "send a POST" in json.loads(curl(gw.url + "/chat?prompt=hi"))["error"]["message"]
