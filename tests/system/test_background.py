# SPDX-License-Identifier: MIT
"""Jobs that nobody waits for, as the SDKs of OpenAI ask for them (`background`), and what survives the end of thaw."""
import json
import random
import signal

import openai
import pytest

from openai_api import CHAT
from rawhttp import post, request
from test_mock import journal  # noqa: F401
from test_resume import tape
from test_sdk_python import SETTINGS
from waiting import poll

RERUN = "routes: {/v1/responses: {rerun: true}, /v1/chat/completions: {rerun: true}}\n"
MOCK = "upstreams: {mock: {url: mock}}\n"
OPEN = ("queued", "in_progress")
ASYNC = [("Prefer", "respond-async")]


def kill(thaw):
    """kill -9, which is no fault of its."""
    thaw.signal(signal.SIGKILL)
    thaw.wait_end()
    thaw.judged = True


@pytest.fixture
def stored(world):
    """stored(): a gateway with the built-in mock on the test's one store."""
    def start(more=""):
        return world.serve(config=f"store: sqlite://{world.folder / 'thaw.db'}\n{MOCK}{more}", workers=2)
    return start


def client_of(gw):
    return openai.OpenAI(base_url=f"{gw.url}/v1", **SETTINGS)


def finished(client, name):
    return poll(lambda: (r := client.responses.retrieve(name)).status not in OPEN and r, f"{name} to be finished")


def begin(client, model="mock-300ms", **more):
    response = client.responses.create(model=model, input="ping 4711", background=True, **more)
    assert response.status == "queued" and response.background and response.id.startswith("resp_")
    return response.id


@pytest.fixture(params=[False, True], ids=["memory", "store"])
def gw(world, stored, request):
    return stored() if request.param else world.serve(None, "--mock", workers=2)


def test_a_response_in_the_background(gw):
    with client_of(gw) as client:
        name = begin(client)
        assert client.responses.retrieve(name).status in OPEN
        response = finished(client, name)
        assert (response.id, response.status) == (name, "completed") and "ping 4711" in response.output_text


def test_one_that_fails(gw):
    with client_of(gw) as client:
        response = finished(client, begin(client, model="mock-429"))
        assert response.status == "failed" and response.error.message


def test_one_that_is_cancelled_and_deleted(gw):
    with client_of(gw) as client:
        name = begin(client, model="mock-60s")
        assert client.responses.cancel(name).status == "cancelled"
        assert client.responses.retrieve(name).status == "cancelled"
        client.responses.delete(name)
        with pytest.raises(openai.APIStatusError) as gone:
            client.responses.retrieve(name)
        assert gone.value.status_code in (404, 410)


def test_a_stream_in_the_background_is_read_on(gw):
    with client_of(gw) as client:
        stream = client.responses.create(model="mock-20x10ms", input="ping 4711", background=True, stream=True)
        first = [next(iter(stream)) for _ in range(3)]
        stream.close()
        rest = list(client.responses.retrieve(first[0].response.id, stream=True, starting_after=first[-1].sequence_number))
        assert [e.sequence_number for e in first + rest] == list(range(len(first) + len(rest)))
        assert rest[-1].type == "response.completed" and "ping 4711" in rest[-1].response.output[0].content[0].text
        assert client.responses.retrieve(first[0].response.id).status == "completed"


def test_another_client_has_nothing_of_it(gw):
    with client_of(gw) as client:
        name = begin(client)
        with pytest.raises(openai.NotFoundError):
            client.with_options(api_key="sk-canary-of-another").responses.retrieve(name)


def test_with_node(node, gw):
    begun = node("begin", gw, script="sdk_background.mjs")
    assert begun["status"] == "queued"
    done = node("finished", gw, begun["id"], script="sdk_background.mjs")
    assert (done["id"], done["status"]) == (begun["id"], "completed") and "ping 4711" in done["text"]
    cancelled = node("cancel", gw, script="sdk_background.mjs")
    assert cancelled["statuses"] == ["cancelled", "cancelled"] and cancelled["gone"] in (404, 410)
    stream = node("stream", gw, script="sdk_background.mjs")
    assert stream["all"] == list(range(len(stream["all"]))) and "ping 4711" in stream["text"]


# --- a restart in between ----------------------------------------------------------------------------------------------

@pytest.mark.parametrize("end", [kill, lambda thaw: thaw.stop()], ids=["killed", "stopped"])
def test_what_is_finished_is_read_after_a_restart(stored, end):
    first = stored()
    with client_of(first) as client:
        name = begin(client)
        text = finished(client, name).output_text
        client.responses.create(model="mock", input="ping", extra_headers={"Idempotency-Key": "k"})
        begin(client)  # told once the disk has it, and with it all that came before
    end(first)
    with client_of(stored()) as client:
        response = client.responses.retrieve(name)
        assert (response.id, response.status, response.output_text) == (name, "completed", text)
        again = client.responses.with_raw_response.create(model="mock", input="ping", extra_headers={"Idempotency-Key": "k"})
        assert again.headers["idempotent-replayed"] == "true"
        client.responses.delete(name)
        with pytest.raises(openai.NotFoundError):
            client.responses.retrieve(name)


def test_what_ran_says_so_after_a_restart(stored):
    first = stored()
    with client_of(first) as client:
        name = begin(client, model="mock-60s")
    kill(first)
    with client_of(stored()) as client:
        response = client.responses.retrieve(name)
        assert response.status == "failed" and "thaw was ended" in response.error.message


def test_what_ran_is_run_again_where_that_is_safe(stored, node):
    first = stored(RERUN)
    with client_of(first) as client:
        name = begin(client, model="mock-1s")
    kill(first)
    second = stored(RERUN)
    done = node("finished", second, name, script="sdk_background.mjs")
    assert (done["id"], done["status"]) == (name, "completed") and "ping 4711" in done["text"]


def test_no_promised_job_is_lost(world, stored):
    """Killed again and again at random moments while jobs begin and end: each that was promised ends."""
    dice = random.Random(seed := random.randrange(1 << 30))
    print(f"seed {seed}")
    body = json.dumps({"model": "mock-30ms", "messages": [{"role": "user", "content": "ping"}]}).encode()
    promised = []
    for _ in range(5):
        gw = stored(RERUN)
        for _ in range(dice.randrange(1, 8)):
            answer = world.connect(gw).ask(post(CHAT, body, ASYNC))
            assert answer.status == 202
            promised.append(tape(answer))
        kill(gw)
    gw = stored(RERUN)
    for path in promised:
        answer = world.connect(gw).ask(request("GET", path))
        assert answer.status == 200 and b"ping" in answer.body, (path, answer)
