# SPDX-License-Identifier: MIT
"""Who may call (SPEC): client keys, how they are presented, and where they never go."""
import json

import pytest

from openai_api import CHAT, CHAT_ANSWER, CHAT_REQUEST, LOOKED_AT
from rawhttp import post, request
from upstream import says

KEY = "sk-canary-client-0123456789abcdef"
OTHER = "sk-canary-other-fedcba9876543210"
APP = "sk-canary-app-00112233445566778899"
UPSTREAM = "sk-canary-upstream"


@pytest.fixture
def guarded(world):
    """(upstream, client) of a gateway with two keys, one of a client with a name, and an upstream key."""
    up = world.upstream(says(CHAT_ANSWER))
    path = world.folder / "other-key"
    path.write_text(OTHER + "\n")
    path.chmod(0o600)
    gw = world.serve(config=f"""
        keys:
          - ${{CLIENT_KEY}}
          - file:{path}
        clients: {{app: {{keys: '${{APP_KEY}}'}}}}
        upstreams:
          up: {{url: {up.url}, key: '${{UPSTREAM_KEY}}'}}
    """, env={"CLIENT_KEY": KEY, "APP_KEY": APP, "UPSTREAM_KEY": UPSTREAM})
    return up, world.connect(gw)


def refused(answer, status=401):
    assert answer.status == status, answer
    error = answer.error()
    assert "canary" not in repr(answer)
    if status == 401:
        assert answer["www-authenticate"].lower().startswith("bearer"), answer
        assert error["code"] == "invalid_api_key", error
    return error


@pytest.mark.parametrize("path", [*LOOKED_AT, "/v1/files"])
@pytest.mark.parametrize("fields", [
    [("Authorization", f"Bearer {KEY}")],
    [("Authorization", f"bearer {KEY}")],
    [("authorization", f"BEARER  {KEY}")],
    [("x-api-key", KEY)],
    [("X-API-Key", OTHER)],
    [("Authorization", f"Bearer {OTHER}")],
    [("Authorization", f"Bearer {APP}")],
    [("Authorization", f"Bearer {KEY}"), ("x-api-key", KEY)],
], ids=["bearer", "lower_case", "upper_case", "x_api_key", "second_by_x_api_key", "second_key", "key_of_a_client",
        "the_same_twice"])
def test_a_key_opens(guarded, path, fields):
    up, client = guarded
    answer = client.ask(post(path, CHAT_REQUEST, fields))
    assert answer.status == 200 and answer.body == CHAT_ANSWER
    sent = up.only()
    assert sent.fields.all("authorization") == [f"Bearer {UPSTREAM}"]
    assert "x-api-key" not in sent.fields
    assert not any(key.encode() in up.received() for key in (KEY, OTHER, APP))


@pytest.mark.parametrize("path", [CHAT, "/v1/files", "/v1/models"])
@pytest.mark.parametrize("fields", [
    [],
    [("Authorization", "")],
    [("Authorization", "Bearer")],
    [("Authorization", "Bearer ")],
    [("Authorization", "Bearer sk-canary-wrong")],
    [("Authorization", f"Bearer {KEY[:-1]}")],
    [("Authorization", f"Bearer {KEY}x")],
    [("Authorization", f"Bearer {KEY.upper()}")],
    [("Authorization", f"Bearer {UPSTREAM}")],
    [("Authorization", f"Basic {KEY}")],
    [("Authorization", KEY)],
    [("Authorization", f"Bearer{KEY}")],
    [("x-api-key", "")],
    [("x-api-key", "sk-canary-wrong")],
    [("x-api-key", f"Bearer {KEY}")],
    [("x_api_key", KEY)],
    [("Cookie", f"api_key={KEY}")],
    [("Proxy-Authorization", f"Bearer {KEY}")],
], ids=["none", "empty", "only_bearer", "bearer_blank", "wrong", "prefix", "longer", "other_case", "the_upstreams", "basic", "no_scheme",
        "no_blank", "empty_x", "wrong_x", "bearer_in_x", "underscores", "cookie", "proxy"])
def test_anything_else_is_401(guarded, path, fields):
    up, client = guarded
    for _ in range(2):
        refused(client.ask(post(path, CHAT_REQUEST, fields) if path != "/v1/models" else request("GET", path, fields)))
    assert not up.requests


@pytest.mark.parametrize("query", [f"?key={KEY}", f"?api_key={KEY}", f"?api-key={KEY}"])
def test_a_key_in_the_query_does_not_open(guarded, query):
    up, client = guarded
    refused(client.ask(post(CHAT + query, CHAT_REQUEST)))
    assert not up.requests


@pytest.mark.parametrize("fields", [
    [("Authorization", f"Bearer {KEY}"), ("x-api-key", OTHER)],
    [("Authorization", f"Bearer {KEY}"), ("x-api-key", APP)],
    [("Authorization", f"Bearer {KEY}"), ("x-api-key", "sk-canary-wrong")],
    [("Authorization", "Bearer sk-canary-wrong"), ("x-api-key", KEY)],
    [("Authorization", f"Bearer {KEY}"), ("Authorization", f"Bearer {OTHER}")],
    [("x-api-key", KEY), ("x-api-key", OTHER)],
    [("Authorization", f"Basic {KEY}"), ("x-api-key", KEY)],
], ids=["both_valid", "one_of_a_client", "second_wrong", "first_wrong", "authorization_twice", "x_api_key_twice", "two_schemes"])
def test_two_different_credentials_are_400(guarded, fields):
    up, client = guarded
    refused(client.ask(post(CHAT, CHAT_REQUEST, fields)), 400)
    assert not up.requests


def test_without_a_key_the_body_is_not_asked_for(guarded):
    up, client = guarded
    client.send(request("POST", CHAT, [("Expect", "100-continue"), ("Content-Length", "1000000")]))
    answer = client.read("POST")
    refused(answer)
    assert not answer.interim
    client.closed()
    assert not up.requests


def test_without_a_key_an_upload_is_not_relayed(guarded):
    up, client = guarded
    client.try_send(post("/v1/files", b"u" * (1 << 20)))
    refused(client.read("POST"))
    assert not up.requests and not up.connections


def test_health_needs_no_key(guarded):
    up, client = guarded
    answer = client.ask(request("GET", "/healthz"))
    assert answer.status == 200 and json.loads(bytes(answer.body))["status"] == "ok"


def test_without_keys_anybody_on_loopback_may_call(world):
    up = world.upstream(says(CHAT_ANSWER))
    client = world.connect(world.serve(up, env={"OPENAI_API_KEY": UPSTREAM}))
    assert client.ask(post(CHAT, CHAT_REQUEST)).body == CHAT_ANSWER
    assert client.ask(post(CHAT, CHAT_REQUEST, [("Authorization", f"Bearer {KEY}"), ("x-api-key", OTHER)])).status in (200, 400)
    assert up.requests[-1].fields.all("authorization") == [f"Bearer {UPSTREAM}"]
    assert KEY.encode() not in up.received() and OTHER.encode() not in up.received()


def test_an_upstreams_key_goes_to_that_upstream_only(world):
    one, two = world.upstream(), world.upstream()
    client = world.connect(world.serve(config=f"""
        upstreams:
          one: {{url: {one.url}, key: '${{ONE}}'}}
          two: {{url: {two.url}, key: '${{TWO}}'}}
        models: {{a: {{use: [one]}}, b: {{use: [two]}}}}
    """, env={"ONE": "sk-canary-one", "TWO": "sk-canary-two"}))
    assert client.ask(post(CHAT, {"model": "a"})).status == client.ask(post(CHAT, {"model": "b"})).status == 200
    assert one.only()["authorization"] == "Bearer sk-canary-one" and two.only()["authorization"] == "Bearer sk-canary-two"
