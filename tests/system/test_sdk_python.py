# SPDX-License-Identifier: MIT
"""The PyPI `openai` SDK against thaw, sync and async."""
import asyncio
import threading

import openai
import pytest

from openai_api import CHAT, REFUSAL, STREAM, STREAM_REQUEST
from rawhttp import post
from upstream import sends, silent_streams, streams
from waiting import LIMIT

MESSAGES = [{"role": "user", "content": "ping 4711 é你😀 and some more words"}]
TEXT = MESSAGES[0]["content"]
SETTINGS = {"api_key": "sk-canary-of-the-client", "max_retries": 0, "timeout": LIMIT}


class Sync:
    """The SDK's synchronous client; every method returns what it got or raises."""

    def __init__(self, gw):
        self.client = openai.OpenAI(base_url=f"{gw.url}/v1", **SETTINGS)

    def chat(self, model="mock", messages=MESSAGES, **more):
        return self.client.chat.completions.create(model=model, messages=messages, **more)

    def stream(self, model="mock", messages=MESSAGES, **more):
        return list(self.client.chat.completions.create(model=model, messages=messages, stream=True, **more))

    def first_then_close(self):
        stream = self.client.chat.completions.create(model="mock", messages=MESSAGES, stream=True)
        first = next(iter(stream))
        stream.close()
        return first

    def embeddings(self, texts):
        return [d.embedding for d in self.client.embeddings.create(model="mock", input=texts).data]

    def models(self):
        return [m.id for m in self.client.models.list()]

    def responses(self):
        whole = self.client.responses.create(model="mock", input="ping 4711")
        events = list(self.client.responses.create(model="mock", input="ping 4711", stream=True))
        return whole, events

    def many(self, count):
        results = [None] * count

        def one(number):
            results[number] = either(number, self.chat, self.stream)
        threads = [threading.Thread(target=one, args=(n,)) for n in range(count)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(3 * LIMIT)
        return results

    def close(self):
        self.client.close()


class Async:
    """The same with the asynchronous client on a loop of its own."""

    def __init__(self, gw):
        self.loop = asyncio.new_event_loop()
        self.client = openai.AsyncOpenAI(base_url=f"{gw.url}/v1", **SETTINGS)

    def wait(self, awaitable):
        return self.loop.run_until_complete(asyncio.wait_for(awaitable, 3 * LIMIT))

    def chat(self, model="mock", messages=MESSAGES, **more):
        return self.wait(self.client.chat.completions.create(model=model, messages=messages, **more))

    async def _stream(self, model="mock", messages=MESSAGES, **more):
        return [c async for c in await self.client.chat.completions.create(model=model, messages=messages, stream=True, **more)]

    def stream(self, *arguments, **more):
        return self.wait(self._stream(*arguments, **more))

    def first_then_close(self):
        async def go():
            stream = await self.client.chat.completions.create(model="mock", messages=MESSAGES, stream=True)
            async for first in stream:
                await stream.close()
                return first
        return self.wait(go())

    def embeddings(self, texts):
        return [d.embedding for d in self.wait(self.client.embeddings.create(model="mock", input=texts)).data]

    def models(self):
        async def go():
            return [m.id async for m in self.client.models.list()]
        return self.wait(go())

    def responses(self):
        async def go():
            whole = await self.client.responses.create(model="mock", input="ping 4711")
            return whole, [e async for e in await self.client.responses.create(model="mock", input="ping 4711", stream=True)]
        return self.wait(go())

    def many(self, count):
        async def one(number):
            mine = [{"role": "user", "content": f"mark-{number}-end"}]
            if number % 2:
                return text_of(await self._stream(messages=mine))
            answer = await self.client.chat.completions.create(model="mock", messages=mine)
            return answer.choices[0].message.content

        async def go():
            return await asyncio.gather(*(one(n) for n in range(count)))
        return self.wait(go())

    def close(self):
        self.loop.run_until_complete(self.client.close())
        self.loop.close()


def text_of(chunks):
    return "".join(c.choices[0].delta.content or "" for c in chunks if c.choices)


def either(number, chat, stream):
    mine = [{"role": "user", "content": f"mark-{number}-end"}]
    return text_of(stream(messages=mine)) if number % 2 else chat(messages=mine).choices[0].message.content


@pytest.fixture(params=[Sync, Async], ids=["sync", "async"])
def sdk(request, world):
    """sdk(gateway): a client of it."""
    def connect(gw):
        client = request.param(gw)
        world.clients.append(client)
        return client
    return connect


@pytest.fixture
def mocked(world, sdk):
    mock = world.mock("--latency", "5ms")
    return sdk(world.serve(f"http://127.0.0.1:{mock.port}/v1"))


def test_a_plain_call(mocked):
    answer = mocked.chat()
    assert TEXT in answer.choices[0].message.content and answer.usage.total_tokens > 0
    assert answer._request_id


def test_a_stream(mocked):
    chunks = mocked.stream()
    assert TEXT in text_of(chunks) and chunks[-1].choices[0].finish_reason == "stop"
    assert all(c.usage is None for c in chunks)
    counted = mocked.stream(stream_options={"include_usage": True})
    assert text_of(counted) == text_of(chunks) and counted[-1].usage.total_tokens > 0 and not counted[-1].choices


def test_closing_a_stream_closes_the_upstream(world, sdk):
    def script(x):
        x.stream_head().chunk(STREAM[0])
        x.hang()
    up = world.upstream(script)
    first = sdk(world.serve(up)).first_then_close()
    assert first.choices[0].delta.content == "Hel"
    up.wait_gone(up.only())


def test_cancelling_a_call_that_waits_closes_the_upstream(world):
    up = world.upstream(lambda x: x.hang())
    gw = world.serve(up)

    async def go():
        async with openai.AsyncOpenAI(base_url=f"{gw.url}/v1", **SETTINGS) as client:
            call = asyncio.create_task(client.chat.completions.create(model="mock", messages=MESSAGES))
            await asyncio.to_thread(up.wait_requests, 1)
            call.cancel()
            with pytest.raises(asyncio.CancelledError):
                await call
            await asyncio.to_thread(up.wait_gone, up.requests[0])
    asyncio.run(go())


CLASSES = {400: "BadRequestError", 401: "AuthenticationError", 403: "PermissionDeniedError", 404: "NotFoundError",
           409: "ConflictError", 422: "UnprocessableEntityError", 429: "RateLimitError", 500: "InternalServerError",
           503: "InternalServerError"}


@pytest.mark.parametrize("status", CLASSES)
def test_error_classes(mocked, status):
    with pytest.raises(openai.APIStatusError) as caught:
        mocked.chat(f"mock-err-{status}")
    error = caught.value
    assert type(error).__name__ == CLASSES[status] and error.status_code == status and error.request_id
    assert error.body and error.body["message"]
    if status == 429:
        assert int(error.response.headers["retry-after"]) >= 1


def test_an_error_of_thaws_own(mocked):
    with pytest.raises(openai.BadRequestError) as caught:
        mocked.chat(5)
    assert caught.value.type == "invalid_request_error" and caught.value.request_id


@pytest.mark.parametrize("how", ["close", "reset"])
@pytest.mark.parametrize("part", [STREAM[0], STREAM[0] + STREAM[1][:30]], ids=["between_events", "in_an_event"])
def test_a_stream_that_was_cut_raises(world, sdk, how, part):
    def script(x):
        x.stream_head().chunk(part)
        getattr(x, how)()
    client = sdk(world.serve(world.upstream(script)))
    with pytest.raises(Exception) as caught:
        client.stream()
    assert not isinstance(caught.value, (AssertionError, TimeoutError)), caught.value


def test_a_cut_between_events_is_an_error_of_the_api(world, sdk):
    """The error event arrives before the connection breaks."""
    from upstream import Gate
    gate = Gate()

    def script(x):
        x.stream_head().chunk(STREAM[0])
        x.wait(gate)
        x.reset()
    up = world.upstream(script)
    gw = world.serve(up)
    with openai.OpenAI(base_url=f"{gw.url}/v1", **SETTINGS) as client:
        stream = iter(client.chat.completions.create(model="mock", messages=MESSAGES, stream=True))
        assert next(stream).choices[0].delta.content == "Hel"
        gate.open()
        with pytest.raises(openai.APIError) as caught:
            next(stream)
        assert caught.value.code == "stream_cut" and caught.value.type == "upstream_error"


def test_a_plain_answer_that_was_cut_raises(world, sdk):
    up = world.upstream(sends(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 500\r\n\r\n{", "close"))
    with pytest.raises(openai.APIError):
        sdk(world.serve(up)).chat()


def test_a_refused_upstream_is_a_server_error(world, sdk):
    up = world.upstream()
    up.stop_listening()
    with pytest.raises(openai.InternalServerError) as caught:
        sdk(world.serve(up)).chat()
    assert caught.value.status_code == 502 and caught.value.type == "upstream_error"


def test_the_control_a_whole_stream_does_not_raise(world, sdk):
    assert text_of(sdk(world.serve(world.upstream(streams(STREAM)))).stream()) == "Hello you"


def test_models(mocked):
    names = mocked.models()
    assert names and all(name.startswith("mock") for name in names)


def test_embeddings(mocked):
    one, two, again = mocked.embeddings(["one", "two", "one"])
    assert one == again != two and len(one) > 1


def test_responses(mocked):
    whole, events = mocked.responses()
    assert "ping 4711" in whole.output_text
    assert "".join(e.delta for e in events if e.type == "response.output_text.delta") == whole.output_text
    assert events[-1].type == "response.completed"


def test_fifty_at_once(mocked):
    for number, text in enumerate(mocked.many(50)):
        assert text and f"mark-{number}-end" in text


# --- limits, silence, and upstreams that change their mind ------------------------------------------------------------------

A_MINUTE = 20  # requests: one each 3 s


@pytest.fixture
def used_up(world):
    """A gateway whose client has made all the calls that it may make in this minute."""
    up = world.upstream(streams(STREAM))
    gw = world.serve(config=f"upstreams: {{up: {{url: '{up.url}'}}}}\nlimits: {{requests_per_minute: {A_MINUTE}}}\n")
    client = world.connect(gw)
    key = [("Authorization", f"Bearer {SETTINGS['api_key']}")]
    for left in reversed(range(A_MINUTE)):
        answer = client.ask(post(CHAT, STREAM_REQUEST, key))
        assert answer.status == 200 and int(answer["x-ratelimit-remaining-requests"]) >= left
    return up, gw


def test_who_has_used_up_his_limit_gets_a_rate_limit_error(used_up, sdk):
    up, gw = used_up
    with pytest.raises(openai.RateLimitError) as caught:
        sdk(gw).stream()
    error, fields = caught.value, caught.value.response.headers
    assert error.code == "rate_limit_exceeded" and "requests_per_minute" in error.message
    assert fields["x-ratelimit-limit-requests"] == str(A_MINUTE) and fields["x-ratelimit-remaining-requests"] == "0"
    assert 0 < int(fields["retry-after-ms"]) <= 60_000 / A_MINUTE and int(fields["retry-after"]) >= 1
    assert len(up.requests) == A_MINUTE


def test_the_sdks_one_retry_comes_when_it_was_told_to(used_up, sdk):
    """Left to itself it comes within a second, and would be refused a second time."""
    up, gw = used_up
    client = sdk(gw)
    client.client.max_retries = 1
    assert text_of(client.stream()) == "Hello you"
    assert len(up.requests) == A_MINUTE + 1


def test_a_stream_that_is_silent_for_long_is_kept_alive(world, sdk):
    up = world.upstream(silent_streams(STREAM))
    gw = world.serve(config=f"upstreams: {{up: {{url: '{up.url}'}}}}\nkeepalive: 1s\n")
    assert text_of(sdk(gw).stream()) == "Hello you"


def test_a_stream_that_begins_with_a_refusal_comes_from_another_upstream(world, sdk):
    first, second = world.upstream(streams([REFUSAL])), world.upstream(streams(STREAM))
    gw = world.serve(config=f"""
        upstreams: {{first: {{url: '{first.url}', retries: 0}}, second: {{url: '{second.url}'}}}}
        models: {{mock: {{use: [first, second]}}}}
        """)
    client = sdk(gw)
    assert text_of(client.stream()) == "Hello you"
    assert len(first.requests) == len(second.requests) == 1


def test_a_refusal_in_a_stream_that_nobody_else_can_answer_raises(world, sdk):
    up = world.upstream(streams([REFUSAL]))
    gw = world.serve(config=f"upstreams: {{up: {{url: '{up.url}', retries: 0}}}}\n")
    with pytest.raises(openai.APIError) as caught:
        sdk(gw).stream()
    assert "slow down" in str(caught.value)
