// SPDX-License-Identifier: MIT
// The page around resumable.mjs: what is asked, what is remembered, what is shown.
//
// localStorage has it all, so that a reload and every other tab find it:
//   thaw-chat            the questions: [{key, model, question}]
//   thaw-chat/KEY        how far the answer is: {key, tape, last, text, end}; the text goes exactly to the event `last`
//   thaw-chat/settings   {gateway, model, by}
// Each tab reads the answer for itself; two that write the same answer both write the truth, and the one ahead wins.
import {Refusal, byEventSource, byFetch, cancel} from './resumable.mjs';

const $ = id => document.getElementById(id);
const HINT = 'This answer is an echo of its question, one word at a time, because a mock gives it. Reload the page now, as ' +
    'often as you like: the answer goes on where it was, for the gateway keeps it on a tape and the page remembers how far ' +
    'it has read. Open a second tab and both show it live. Whatever you do, the slow call behind it was made once, and is ' +
    'paid once. Only Stop ends it.';
const DEFAULTS = {gateway: 'http://localhost:8080', model: 'mock-79x120ms', by: 'fetch'};
const READERS = {fetch: byFetch, eventsource: byEventSource};

// 128 random bits. (crypto.randomUUID is not there for pages that come over plain HTTP from another machine.)
const newKey = () => [...crypto.getRandomValues(new Uint8Array(16))].map(b => b.toString(16).padStart(2, '0')).join('');

const load = name => JSON.parse(localStorage.getItem(`thaw-chat${name}`));
const store = (name, value) => localStorage.setItem(`thaw-chat${name}`, JSON.stringify(value));

const settings = {...DEFAULTS, ...load('/settings')};
let turns = []; // {key, model, question, answer, problem, state, went_on, following, view}

// ---- what is remembered

const loadAnswer = key => load(`/${key}`) ?? {key, tape: null, last: null, text: '', end: null};
const number = answer => answer.last ? Number(answer.last.split(':')[1]) : -1;

function save(answer) {
    const theirs = loadAnswer(answer.key);
    if (answer.end || (!theirs.end && number(answer) >= number(theirs))) {
        store(`/${answer.key}`, answer);
    }
}

const saveTalk = () => store('', turns.map(({key, model, question}) => ({key, model, question})));

// ---- what is said when something goes wrong

const WORDS = {
    tape_gone: () => 'This answer was kept for a while after its end, and is gone now.',
    tape_dropped: () => 'The gateway kept only the end of this long answer, and what comes next is not in it.',
    tape_not_found: () => 'The gateway does not know this answer: it was restarted, or another key asked for it.',
    401: () => 'The gateway wants a key, and not this one: see Settings.',
    429: r => `Too much at once${again(r)}. (${r.message})`,
    503: r => `The service is full or resting${again(r)}. (${r.message})`,
    0: r => `The answer broke off: ${r.message}`,
};
const again = refusal => refusal.retryAfter === null ? '' : `; try again in ${refusal.retryAfter} s`;
const inWords = r => (WORDS[r.code] ?? WORDS[r.status] ?? (() => `The gateway said ${r.status}: ${r.message}`))(r);

// ---- one answer

// What came before, as the model has to hear it; an answer that has not come is left out with its question.
function messages(turn) {
    const before = turns.slice(0, turns.indexOf(turn)).filter(t => t.answer.text);
    return [...before.flatMap(t => [{role: 'user', content: t.question}, {role: 'assistant', content: t.answer.text}]),
        {role: 'user', content: turn.question}];
}

const callOf = (turn, signal) => ({
    api: `${settings.gateway.replace(/\/+$/, '')}/v1`,
    headers: $('secret').value ? {Authorization: `Bearer ${$('secret').value}`} : {},
    body: {model: turn.model, messages: messages(turn)},
    place: turn.answer,
    signal,
});

async function follow(turn) {
    const {answer} = turn;
    const following = turn.following = new AbortController();
    turn.problem = '';
    turn.state = 'asking';
    turn.view?.paint();
    let open = false;
    if (answer.tape) {
        turn.went_on++;
    }
    try {
        await READERS[settings.by](callOf(turn, following.signal), {
            begun: () => save(answer),
            open() {
                turn.went_on += open;
                open = true;
                turn.state = 'reading';
                turn.view.paint();
            },
            chunk(chunk) {
                answer.text += chunk.choices?.[0]?.delta?.content ?? '';
                save(answer);
                turn.view.paint();
            },
            pause() {
                turn.state = 'lost';
                turn.view.paint();
            },
        });
        answer.end = 'whole';
    } catch (error) {
        if (following.signal.aborted) {
            return; // by whoever knows why
        }
        if (!(error instanceof Refusal)) {
            turn.problem = `This page has a problem: ${error}`;
        } else if (error.code === 'cancelled') {
            answer.end = 'stopped';
        } else if (error.status === 0) { // it is on the tape: so it ended, for every tab
            answer.end = inWords(error);
        } else {
            turn.problem = inWords(error);
        }
    }
    ended(turn);
}

// In whatever way: nobody reads any more.
function ended(turn) {
    turn.following?.abort();
    turn.following = null;
    turn.state = '';
    if (turn.answer.end && turns.includes(turn)) {
        save(turn.answer);
    }
    turn.view.paint();
    compose();
}

async function stop(turn) {
    turn.following.abort();
    turn.state = 'stopping';
    turn.view.paint();
    try {
        await cancel(callOf(turn, AbortSignal.timeout(10000)));
    } catch {
        turn.problem = 'The gateway could not be told. It ends the answer itself when nobody comes back for it.';
    }
    turn.answer.end = 'stopped';
    ended(turn);
}

// ---- what is seen

const running = () => turns.find(turn => turn.following || turn.state);

const STATES = {
    asking: () => 'waiting for the answer to begin',
    reading: () => '',
    lost: () => `no connection to ${settings.gateway}: trying again (if it never works: is it running, and is this page in its cors?)`,
    stopping: () => 'stopping',
};

function facts({answer, state, went_on}) {
    const n = number(answer);
    return [STATES[state]?.(), answer.end === 'stopped' && 'stopped', n >= 0 && `event ${n}`,
        answer.tape && `tape ${answer.tape.slice(0, 6)}…`, went_on && `went on ${went_on === 1 ? 'once' : `${went_on} times`}`]
        .filter(Boolean).join(' · ');
}

function show(turn) {
    const item = $('turn').content.cloneNode(true).firstElementChild;
    const part = name => item.querySelector(name);
    part('.question').textContent = turn.question;
    part('.problem button').onclick = () => askAgain(turn);
    turn.view = {
        item,
        paint() {
            const problem = turn.problem || (['whole', 'stopped', null].includes(turn.answer.end) ? '' : turn.answer.end);
            const main = document.querySelector('main');
            const atEnd = main.scrollTop + main.clientHeight >= main.scrollHeight - 40;
            part('.answer').setAttribute('aria-busy', Boolean(turn.state));
            part('.text').textContent = turn.answer.text;
            part('.facts').textContent = facts(turn);
            part('.problem').hidden = !problem;
            part('.problem span').textContent = problem;
            part('.problem button').hidden = turn !== turns.at(-1);
            if (atEnd) {
                main.scrollTop = main.scrollHeight;
            }
        },
    };
    $('talk').append(item);
    turn.view.paint();
}

function compose() {
    const busy = Boolean(running());
    $('empty').hidden = turns.length > 0;
    $('talk').hidden = $('new').hidden = turns.length === 0;
    $('ask').hidden = busy;
    $('stop').hidden = !busy;
}

// The talk as it is remembered: by this tab before a reload, or by another one just now.
function refresh() {
    const known = new Map(turns.map(turn => [turn.key, turn]));
    turns = (load('') ?? []).map(turn => known.get(turn.key) ?? {...turn, answer: loadAnswer(turn.key), problem: '', state: '', went_on: 0});
    for (const turn of known.values()) {
        if (!turns.includes(turn)) {
            turn.following?.abort();
        }
    }
    $('talk').replaceChildren();
    turns.forEach(show);
    turns.filter(turn => !turn.answer.end && !turn.following).forEach(follow);
    compose();
}

// ---- what is done

function ask(question) {
    store('', [...(load('') ?? []), {key: newKey(), model: settings.model, question}]);
    refresh();
    document.querySelector('main').scrollTop = document.querySelector('main').scrollHeight;
}

// A new call, with a key of its own.
function askAgain(turn) {
    localStorage.removeItem(`thaw-chat/${turn.key}`);
    turns.splice(turns.indexOf(turn), 1);
    saveTalk();
    ask(turn.question);
}

$('composer').onsubmit = event => {
    event.preventDefault();
    const question = $('question').value.trim();
    if (question && !running()) {
        $('question').value = '';
        ask(question);
    }
};
$('question').onkeydown = event => {
    if (event.key === 'Enter' && !event.shiftKey && !event.isComposing) {
        event.preventDefault();
        $('composer').requestSubmit();
    }
};
$('stop').onclick = () => stop(running());
$('suggestion').onclick = () => ask(HINT);
$('new').onclick = () => {
    const live = running();
    if (live) {
        stop(live);
    }
    turns.forEach(turn => localStorage.removeItem(`thaw-chat/${turn.key}`));
    localStorage.removeItem('thaw-chat');
    refresh();
    $('question').focus();
};

for (const name of Object.keys(DEFAULTS)) {
    $(name).value = settings[name];
    $(name).onchange = () => {
        settings[name] = $(name).value || DEFAULTS[name];
        store('/settings', settings);
    };
}
$('secret').value = sessionStorage.getItem('thaw-chat/secret') ?? ''; // of this tab, and gone with it
$('secret').onchange = () => sessionStorage.setItem('thaw-chat/secret', $('secret').value);

// Another tab asked, began anew, or heard the end.
addEventListener('storage', event => {
    const turn = turns.find(t => event.key === `thaw-chat/${t.key}`);
    if (event.key === 'thaw-chat' || event.key === null) {
        refresh();
    } else if (turn?.following && event.newValue && JSON.parse(event.newValue).end) {
        turn.answer = JSON.parse(event.newValue);
        ended(turn);
    }
});

refresh();
