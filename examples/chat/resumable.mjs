// SPDX-License-Identifier: MIT
// A streamed answer that survives a reload and a lost network: the part to take over into an app of yours.
//
//     const call = {
//         api: 'http://localhost:8080/v1',
//         headers: {Authorization: 'Bearer ...'},          // or {}
//         body: {model, messages},
//         place: {key: crypto.randomUUID()},               // or as it was remembered: then it goes on from there
//     };
//     await byFetch(call, {chunk(chunk) { ...; remember(call.place); }});
//
// `place` is {key, tape, last}: the Idempotency-Key, the tape's id and the last event's. Remember it before the call and
// together with what each chunk made of the page; then every event counts once. The promise is kept when the answer is
// complete, and broken with a Refusal when it never will be. `signal` (an AbortSignal) ends the reading, not the answer.

// What the gateway said instead of an answer, or at its end.
export class Refusal extends Error {
    constructor(error, status = 0, retryAfter = null) {
        super(error?.message ?? `HTTP status ${status}`);
        this.code = error?.code ?? null;
        this.status = status;         // 0: it was an event of the stream
        this.retryAfter = retryAfter; // seconds, null: not said
    }
}

// The connection failed or was lost. fetch's own word for that, TypeError, is also a bug's.
class Lost extends Error {}

const orLost = promise => promise.catch(error => {
    throw error instanceof TypeError ? new Lost(error.message) : error;
});

// Server-sent events out of a body: {data, id}, as WHATWG HTML section 9.2 has it, whatever their type.
export async function* events(body) {
    const reader = body.getReader();
    const decoder = new TextDecoder();
    let left = '';
    let data = [];
    let id = null;
    try {
        for (;;) {
            const {value, done} = await orLost(reader.read());
            if (done) {
                return;
            }
            const lines = (left + decoder.decode(value, {stream: true})).split(/\r\n|\n|\r(?!$)/);
            left = lines.pop();
            for (const line of lines) {
                const [, name, text] = /^([^:]*):? ?(.*)$/s.exec(line);
                if (line === '') {
                    if (data.length) {
                        yield {data: data.join('\n'), id};
                    }
                    data = [];
                } else if (name === 'data') {
                    data.push(text);
                } else if (name === 'id') {
                    id = text;
                }
            }
        }
    } finally {
        reader.cancel().catch(() => {}); // whoever stops early stops the transfer, too
    }
}

async function request(call, path, init) {
    const headers = {...call.headers, ...init.headers};
    const response = await orLost(fetch(call.api + path, {...init, headers, signal: call.signal}));
    if (!response.ok) {
        const {error} = await response.json().catch(() => ({}));
        const after = response.headers.get('Retry-After');
        throw new Refusal(error, response.status, after === null ? null : Number(after));
    }
    return response;
}

// The same key with the same body is the same call: sent twice, it runs once.
const post = (call, headers = {}) => request(call, '/chat/completions', {
    method: 'POST',
    headers: {'Content-Type': 'application/json', 'Idempotency-Key': call.place.key, ...headers},
    body: JSON.stringify({...call.body, stream: true}),
});

const read = call => request(call, `/tapes/${call.place.tape}`, {
    headers: call.place.last ? {'Last-Event-ID': call.place.last} : {},
});

// The tape's id without waiting for the answer to begin.
async function begin(call) {
    const response = await post(call, {Prefer: 'respond-async'});
    call.place.tape = response.headers.get('X-Thaw-Tape');
    return true;
}

// True: that was the end.
function take(call, on, {data, id}) {
    call.place.last = id;
    if (data === '[DONE]') {
        return true;
    }
    const chunk = JSON.parse(data);
    if (chunk.error) {
        throw new Refusal(chunk.error);
    }
    on.chunk(chunk);
    return false;
}

// Rests, or shorter if the network comes back meanwhile.
const rest = (ms, signal) => new Promise((resolve, reject) => {
    const over = () => {
        clearTimeout(timer);
        globalThis.removeEventListener?.('online', over);
        signal?.removeEventListener('abort', over);
        signal?.aborted ? reject(signal.reason) : resolve();
    };
    const timer = setTimeout(over, ms);
    globalThis.addEventListener?.('online', over); // Node.js has none
    signal?.addEventListener('abort', over);
    if (signal?.aborted) {
        over();
    }
});

// Tries until `work` gives true, resting longer and longer until it makes progress.
async function persist(call, on, work) {
    const shortest = 200;
    let pause = shortest;
    for (;;) {
        try {
            if (await work(() => { pause = shortest; })) {
                return;
            }
        } catch (error) {
            if (!(error instanceof Lost)) {
                throw error;
            }
        }
        on.pause?.();
        await rest(pause, call.signal);
        pause = Math.min(2 * pause, 5000);
    }
}

// What both call: on.chunk(chunk) for each; on.begun() when the gateway has the call; on.open() whenever there is a
// connection to read from, on.pause() when it is lost.

// With fetch, which may send a key.
export function byFetch(call, on) {
    return persist(call, on, async progress => {
        const response = await (call.place.tape ? read(call) : post(call));
        call.place.tape ??= response.headers.get('X-Thaw-Tape');
        on.begun?.();
        if (response.status === 204) {
            return true; // there is nothing behind what we have
        }
        on.open?.();
        progress(); // before an event has come: Chromium drops what it has not handed over yet when the connection is broken
                    // off, which is how an answer ends that was cut, so that its end may have to be read more than once
        for await (const event of events(response.body)) {
            if (take(call, on, event)) {
                return true;
            }
        }
        return false;
    });
}

// With EventSource, which comes back by itself and says where it was, but sends no key: wants `tape: {read: id}`.
export async function byEventSource(call, on) {
    if (!call.place.tape) {
        await persist(call, on, () => begin(call));
        on.begun?.();
    }
    const after = call.place.last ? `?starting_after=${call.place.last.split(':')[1]}` : '';
    const source = new EventSource(`${call.api}/tapes/${call.place.tape}${after}`);
    let complete = false;
    try {
        await new Promise((over, failed) => {
            source.onopen = () => on.open?.();
            source.onmessage = ({data, lastEventId}) => {
                try {
                    complete = take(call, on, {data, id: lastEventId});
                } catch (error) {
                    failed(error);
                }
                if (complete) {
                    over();
                }
            };
            source.onerror = () => source.readyState === EventSource.CLOSED ? over() : on.pause?.();
            call.signal?.addEventListener('abort', () => failed(call.signal.reason));
        });
    } finally {
        source.close();
    }
    if (!complete) {
        await byFetch(call, on); // it was refused, or 204 came, which is the end: EventSource does not say which
    }
}

// Ends the answer itself, for everybody who reads it.
export async function cancel(call) {
    if (!call.place.tape) {
        await begin(call);
    }
    await request(call, `/tapes/${call.place.tape}`, {method: 'DELETE'});
}
