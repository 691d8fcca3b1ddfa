# SPDX-License-Identifier: MIT
"""The front door: arguments, configuration, start-up lines, exit codes, signals."""
import os
import re
import resource
import signal
import socket

import pytest

from openai_api import CHAT, CHAT_ANSWER, CHAT_REQUEST, STREAM, STREAM_REQUEST
from process import free_port, run
from rawhttp import post, request
from upstream import Gate, says, streams
from waiting import LIMIT, poll

SECRET = "sk-canary-of-the-upstream"


def wrong_usage(result, *words):
    assert result.code == 2, result
    assert result.out == "", result
    for word in words:
        assert word in result.err, f"{word!r} is not named: {result}"
    return result


# --- arguments -----------------------------------------------------------------------------------------------------------

def test_without_a_verb_it_says_which_there_are():
    wrong_usage(run(), "serve", "mock")


@pytest.mark.parametrize("option", ["--help", "-h", "help"])
def test_help_lists_the_verbs(option):
    result = run(option)
    assert result.code == 0 and all(f"\n  {verb} " in result.out for verb in ("serve", "mock", "lab", "plan")), result
    assert result.err == "" and all(len(line) <= 80 for line in result.out.splitlines()), result


def test_version():
    result = run("--version")
    assert result.code == 0 and re.match(r"thaw \d+\.\d+", result.out), result


@pytest.mark.parametrize("verb,options", [
    ("serve", ["--listen", "--upstream", "--upstream-ca", "--mock", "--config", "--workers", "--check", "--open", "--model",
               "--store", "--admin", "--drain", "--access-log"]),
    ("mock", ["--listen", "--latency", "--capacity", "--fault", "--record", "--replay", "--watch"]),
    ("lab", ["--listen", "--cpus", "--upstream", "--run", "--report"]),
    ("plan", ["--pool", "--time", "--users", "--runtime", "--platform", "--think", "--rate", "--from", "--json", "--list"]),
])
def test_help_of_a_verb_has_its_options_and_an_example(verb, options):
    result = run(verb, "--help")
    assert result.code == 0 and result.err == "" and all(len(line) <= 80 for line in result.out.splitlines()), result
    for option in options:
        assert option in result.out, f"{option} is not in the help: {result}"
    # An example is a line that could be typed.
    assert re.search(rf"^\s+(\$ )?([A-Z_]+=\S+ )?thaw {verb}\b.* --?\w", result.out, re.M) or \
        re.search(rf"^\s+(\$ )?[A-Z_]+=\S+ thaw {verb}\b", result.out, re.M), result


@pytest.mark.parametrize("arguments,named", [
    (["serv"], ["serv", "serve"]),
    (["mokc"], ["mokc", "mock"]),
    (["serve", "--upstreem", "http://127.0.0.1:1/v1"], ["--upstreem", "--upstream"]),
    (["serve", "--lisen=127.0.0.1:1"], ["--lisen", "--listen"]),
    (["serve", "--mock", "--worker", "2"], ["--worker", "--workers"]),
    (["mock", "--latenci", "1s"], ["--latenci", "--latency"]),
])
def test_a_misspelt_argument_is_named_with_the_nearest_valid_one(arguments, named):
    wrong_usage(run(*arguments), *named)


@pytest.mark.parametrize("arguments,named", [
    (["serve", "--listen"], ["--listen"]),
    (["serve", "--mock", "--listen", "127.0.0.1:99999"], ["listen", "65535"]),
    (["serve", "--mock", "--listen", "nonsense"], ["listen", "port"]),
    (["serve", "--mock", "--workers", "banana"], ["workers", "banana"]),
    (["serve", "--mock", "--workers", "-1"], ["workers", "-1"]),
    (["serve", "--mock", "--model", ""], ["model", "empty"]),
    (["serve", "--mock", "--model"], ["--model"]),
    (["serve", "--mock", "--store", "/var/lib/thaw.db"], ["store", "sqlite://"]),
    (["serve", "--mock", "--store", "postgres://user@127.0.0.1/thaw"], ["store", "sqlite://"]),
    (["serve", "--mock", "--store", "sqlite://"], ["store", "path"]),
    (["serve", "--mock", "--admin", "here"], ["admin", "port"]),
    (["serve", "--mock", "--admin", "0.0.0.0:9"], ["admin", "loopback", "keys"]),
    (["serve", "--mock", "--admin", "127.0.0.1:9", "--listen", ":9"], ["admin", "listen"]),
    (["serve", "--mock", "--drain", "15"], ["drain", "15", "24h"]),
    (["serve", "--mock", "--access-log", ""], ["access_log", "empty"]),
    (["serve", "--upstream", "ftp://127.0.0.1/v1"], ["--upstream", "http://"]),
    (["serve", "--upstream", "http://"], ["--upstream", "host"]),
    (["serve", "--upstream", "http://127.0.0.1:70000/v1"], ["--upstream", "port"]),
    (["serve", "--mock", "--check=yes"], ["--check"]),
    (["serve", "--mock", "surplus"], ["surplus"]),
    (["mock", "--latency", "5parsecs"], ["latency", "5parsecs"]),
    (["mock", "--latency"], ["--latency"]),
    (["mock", "surplus"], ["surplus"]),
])
def test_a_bad_value_is_told_with_its_argument(arguments, named):
    wrong_usage(run(*arguments), *named)


def test_an_option_may_be_written_with_equals(world):
    up = world.upstream(says(CHAT_ANSWER))
    gw = world.serve(None, f"--upstream={up.url}")
    assert world.connect(gw).ask(post(CHAT, CHAT_REQUEST)).body == CHAT_ANSWER


def test_with_nothing_to_send_to_it_names_the_four_ways():
    wrong_usage(run("serve"), "OPENAI_API_KEY", "--upstream", "--mock", "--config")


def test_an_empty_key_is_no_key():
    wrong_usage(run("serve", env={"OPENAI_API_KEY": ""}), "OPENAI_API_KEY", "--upstream", "--mock", "--config")


# --- starting ------------------------------------------------------------------------------------------------------------

def test_start_up_lines_say_where_to_what_and_how_much(world):
    up = world.upstream()
    gw = world.serve(up, workers=None)
    gw.wait_text(r"calls")
    text = gw.text
    for pattern in (rf"(?i)listening on (http://)?127\.0\.0\.1:{gw.port}\b", rf"127\.0\.0\.1:{up.port}\b",
                    r"(?i)\bcpus?\b", r"(?i)\bworkers?\b", r"(?i)descriptors", r"(?i)memory", r"(?i)\bcalls\b"):
        assert re.search(pattern, text), f"{pattern} is not in the start-up lines:\n{text}"
    assert gw.out == b"", "logs belong to stderr"


def test_a_process_bound_to_one_cpu_has_one_worker(world):
    cpu = min(os.sched_getaffinity(0))
    gw = world.serve(world.upstream(), workers=None, before=lambda: os.sched_setaffinity(0, {cpu}))
    gw.wait_text(r"(?i)\b1 worker\b|\bworkers?\W{1,3}1\b")


def test_the_limit_of_descriptors_is_found(world):
    gw = world.serve(world.upstream(), before=lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (317, 317)))
    gw.wait_text(r"\b317\b")


def test_a_built_in_mock_answers_without_any_other_setting(world):
    gw = world.serve(None, "--mock")
    answer = world.connect(gw).ask(post(CHAT, {"model": "mock", "messages": [{"role": "user", "content": "ping 123"}]}))
    assert answer.status == 200
    assert "ping 123" in answer.json()["choices"][0]["message"]["content"]


def test_a_key_alone_sends_to_openai(world):
    result = run("serve", "--check", env={"OPENAI_API_KEY": SECRET})
    assert result.code == 0 and "api.openai.com" in result.err, result


def test_of_two_upstreams_the_first_gets_every_model(world):
    first, second = world.upstream(), world.upstream()
    gw = world.serve(first, "--upstream", second.url)
    assert world.connect(gw).ask(post(CHAT, CHAT_REQUEST)).status == 200
    first.only()
    assert not second.requests


def test_a_client_that_comes_too_early_is_refused_and_never_reset(world):
    """Nothing listens before there is somebody who answers."""
    def connect(port):
        client = socket.socket()
        if client.connect_ex(("127.0.0.1", port)) == 0:
            return client
        client.close()
        return None
    for _ in range(20):
        gw = world.serve(None, "--mock", ready=False)
        with poll(lambda: connect(gw.port), "thaw to listen", every=0) as client:
            client.settimeout(LIMIT)
            client.sendall(request("GET", "/healthz"))
            assert client.recv(1 << 16).startswith(b"HTTP/1.1 200 ")
        gw.stop()


def test_a_port_that_is_taken_is_named(world):
    taken = world.mock()
    result = run("serve", "--mock", "--listen", f"127.0.0.1:{taken.port}")
    assert result.code in (1, 2, 3), result
    assert f"127.0.0.1:{taken.port}" in result.err, result
    result = run("mock", "--listen", f"127.0.0.1:{taken.port}")
    assert result.code in (1, 2, 3) and str(taken.port) in result.err, result


def test_it_listens_on_ipv6_loopback(world):
    up = world.upstream(says(CHAT_ANSWER))
    gw = world.serve(up, "--listen", f"[::1]:{(port := free_port('::1'))}", port=port, host="::1", listen=False)
    gw.wait_text(r"\[::1\]")
    assert world.connect(gw, host="::1").ask(post(CHAT, CHAT_REQUEST)).body == CHAT_ANSWER


# --- --check and configuration ---------------------------------------------------------------------------------------------

GOOD = """
    listen: 127.0.0.1:{port}
    workers: 1
    keys:
      - ${{CLIENT_KEY}}
    upstreams:
      up:
        url: http://127.0.0.1:9/v1
        key: ${{UPSTREAM_KEY}}
      local: {{url: "http://localhost:11434/v1"}}
    models:
      fast: {{use: [up/gpt-5-mini, local/qwen3]}}
"""
KEYS = {"CLIENT_KEY": "sk-canary-of-the-client", "UPSTREAM_KEY": SECRET}


def test_check_does_everything_but_listen(world):
    busy = world.mock()  # its port is taken: --check does not mind
    result = run("serve", "--check", "--config", world.config(GOOD.format(port=busy.port)), env=KEYS)
    assert result.code == 0, result


def test_a_config_file_works(world):
    up = world.upstream(says(CHAT_ANSWER))
    port = free_port()
    gw = world.serve(config=f"""
        listen: 127.0.0.1:{port}
        upstreams:
          up: {{url: {up.url}}}
    """, port=port, listen=False)
    assert world.connect(gw).ask(post(CHAT, CHAT_REQUEST)).body == CHAT_ANSWER


def test_an_argument_wins_over_the_file(world):
    up = world.upstream(says(CHAT_ANSWER))
    gw = world.serve(config=f"""
        listen: 127.0.0.1:1
        upstreams: {{up: {{url: {up.url}}}}}
    """)
    assert world.connect(gw).ask(post(CHAT, CHAT_REQUEST)).body == CHAT_ANSWER


def test_the_model_of_an_argument_is_one_of_the_file(world):
    config = world.config(UP + "models: {fast: {use: up}, slow: {use: up}}\n")
    assert run("serve", "--check", "--config", config, "--model", "slow").code == 0
    wrong_usage(run("serve", "--check", "--config", config, "--model", "fsat"), "model", "fsat", "fast")


def test_a_store_may_be_an_argument(world):
    result = run("serve", "--check", "--mock", "--store", f"sqlite://{world.folder}/thaw.db")
    assert result.code == 0, result


def test_administration_drain_and_log_may_be_arguments(world):
    config = world.config(UP + "admin: here\n")
    wrong_usage(run("serve", "--check", "--config", config), "admin", "port")
    config = world.config(UP + f"admin: 0.0.0.0:{free_port()}\ndrain: 1s\naccess_log: {world.folder}/log\n")
    result = run("serve", "--check", "--config", config, "--admin", "off", "--drain", "0", "--access-log", "off")
    assert result.code == 0, result


def test_a_config_file_that_is_not_there_is_named(world):
    wrong_usage(run("serve", "--config", world.folder / "nowhere.yaml"), "nowhere.yaml")


UP = "upstreams: {up: {url: 'http://127.0.0.1:9/v1'}}\n"


@pytest.mark.parametrize("text,line,column,words", [
    pytest.param("listn: 127.0.0.1:8080\n" + UP, 1, 1, ["listn", "listen"], id="unknown_key"),
    pytest.param("upstreams:\n  up:\n    ulr: http://127.0.0.1:9/v1\n", 3, 5, ["ulr", "url"], id="unknown_key_below"),
    pytest.param(UP + "workers: many\n", 2, 10, ["workers"], id="wrong_type"),
    pytest.param(UP + "workers: [1]\n", 2, 10, ["workers"], id="list_for_a_number"),
    pytest.param("upstreams: [one]\n", 1, 12, ["upstreams"], id="list_for_a_mapping"),
    pytest.param(UP + "models:\n  fast: {use: [upp/gpt]}\n", 3, 16, ["upp", "up"], id="dangling_reference"),
    pytest.param("upstreams: {up: {url: 'gopher://127.0.0.1/v1'}}\n", 1, 23, ["url", "http://"], id="bad_url"),
    pytest.param("upstreams: {up: {url: 'http://127.0.0.1:9/v1', timeouts: {first_byte: 5parsecs}}}\n", 1, 71, ["5parsecs"],
                 id="bad_duration"),
    pytest.param(UP + "max_body: much\n", 2, 11, ["max_body"], id="bad_size"),
    pytest.param(UP + "workers: 1\nworkers: 2\n", 3, 1, ["workers"], id="key_twice"),
    pytest.param(UP + "\tworkers: 1\n", 2, None, [], id="tab"),
    pytest.param(UP + "workers: [1\n", None, None, [], id="not_yaml"),
    pytest.param(UP + "keys: ['${THERE_IS_NO_SUCH_THING}']\n", 2, 8, ["THERE_IS_NO_SUCH_THING"], id="unset_variable"),
    pytest.param(UP + "keys: ['']\n", 2, 8, ["keys"], id="empty_key"),
    pytest.param(UP + "store: redis://127.0.0.1\n", 2, 8, ["store", "sqlite://"], id="unknown_store"),
    pytest.param(UP + "cors: [https://app.example/]\n", 2, 8, ["cors", "path"], id="origin_with_a_path"),
    pytest.param(UP + "routes:\n  /v1/chat/completions: {on_disconect: finish}\n", 3, 26,
                 ["on_disconect", "on_disconnect"], id="unknown_key_of_a_route"),
    pytest.param(UP + "recipes:\n  /chat: {prompt: 'Say {{ hello'}\n", 3, 19, ["prompt", "character 5", "{{name}}"],
                 id="bad_template"),
    pytest.param(UP + "models: {fast: {use: up}}\nrecipes:\n  /chat: {prompt: hi, model: fsat}\n", 4, 30,
                 ["fsat", "fast"], id="dangling_model"),
    pytest.param(UP + "recipes:\n  /v1/chat/completions: {prompt: hi}\n", 3, 3, ["/v1/chat/completions"],
                 id="path_of_thaws_own"),
    pytest.param(UP + "models: {fast: {use: 'up/a*200 | up/b'}}\n", 2, 22, ["weight", "100", "up"], id="bad_weight"),
    pytest.param(UP + "clients: {app: {key: a}}\n", 2, 17, ["clients.app.key", "keys"], id="unknown_key_of_a_client"),
    pytest.param(UP + "a: &a [x, x]\nb: &b [*a, *a]\n", None, None, [], id="aliases"),
])
@pytest.mark.parametrize("check", [["--check"], []], ids=["check", "start"])
def test_a_config_error_says_where_and_what(world, text, line, column, words, check):
    result = wrong_usage(run("serve", *check, "--config", world.config(text, "bad.yaml")), *words)
    where = re.search(r"bad\.yaml:(\d+):(\d+): ", result.err)
    assert where, f"no file:line:column in {result}"
    assert line is None or int(where[1]) == line, result
    assert column is None or int(where[2]) == column, result


def test_no_upstream_in_the_config_is_an_error(world):
    wrong_usage(run("serve", "--check", "--config", world.config("workers: 1\n")), "upstream")


def test_a_config_error_beside_a_secret_does_not_show_it(world):
    text = f"keys: [sk-canary-plain]\nupstreams: {{up: {{url: 'http://127.0.0.1:9/v1', key: {{{SECRET}: 1}}}}}}\n"
    wrong_usage(run("serve", "--check", "--config", world.config(text)), "key")  # run() looks for the secret


def test_a_secret_may_come_from_a_file(world):
    up = world.upstream()
    path = world.folder / "key"
    path.write_text(SECRET + "\n")
    path.chmod(0o600)
    gw = world.serve(config=f"upstreams: {{up: {{url: {up.url}, key: 'file:{path}'}}}}\n")
    assert world.connect(gw).ask(post(CHAT, CHAT_REQUEST)).status == 200
    assert up.only()["authorization"] == f"Bearer {SECRET}"


# --- who may call: the refusal ---------------------------------------------------------------------------------------------

@pytest.mark.parametrize("address", ["0.0.0.0", "[::]"])
def test_a_paid_key_is_not_opened_to_the_network(address):
    listen = ["--listen", f"{address}:{free_port()}"]
    for check in ([], ["--check"]):
        result = run("serve", *listen, *check, env={"OPENAI_API_KEY": SECRET})
        assert result.code == 2 and "keys" in result.err and "--open" in result.err, result


@pytest.mark.parametrize("config,arguments", [
    pytest.param("upstreams: {up: {url: 'http://127.0.0.1:9/v1', key: '${UPSTREAM_KEY}'}}\n", ["--open"], id="open"),
    pytest.param("open: true\nupstreams: {up: {url: 'http://127.0.0.1:9/v1', key: '${UPSTREAM_KEY}'}}\n", [],
                 id="open_in_the_file"),
    pytest.param("keys: ['${CLIENT_KEY}']\nupstreams: {up: {url: 'http://127.0.0.1:9/v1', key: '${UPSTREAM_KEY}'}}\n",
                 [], id="client_keys"),
    pytest.param("clients: {app: {keys: '${CLIENT_KEY}'}}\n"
                 "upstreams: {up: {url: 'http://127.0.0.1:9/v1', key: '${UPSTREAM_KEY}'}}\n", [], id="keys_of_a_client"),
    pytest.param("upstreams: {up: {url: 'http://127.0.0.1:9/v1'}}\n", [], id="nothing_to_spend"),
])
def test_the_network_is_fine_when(world, config, arguments):
    result = run("serve", "--check", "--config", world.config(config), "--listen", f"0.0.0.0:{free_port()}", *arguments,
                 env=KEYS)
    assert result.code == 0, result


# --- ending ------------------------------------------------------------------------------------------------------------------

def test_sigterm_ends_an_idle_gateway(world):
    gw = world.serve(world.upstream())
    keep_alive = world.connect(gw)
    assert keep_alive.ask(post(CHAT, CHAT_REQUEST)).status == 200
    gw.signal(signal.SIGTERM)
    assert gw.wait_end() == 0
    assert keep_alive.closed()
    gw.judged = True


def test_ctrl_c_ends_it(world):
    gw = world.serve(world.upstream())
    gw.signal(signal.SIGINT)
    assert gw.wait_end() in (0, 130)
    gw.judged = True


def test_sigterm_lets_running_calls_finish(world):
    gate = Gate()
    up = world.upstream(streams(STREAM, gates=[None, gate]))
    gw = world.serve(up)
    client = world.connect(gw)
    client.send(post(CHAT, STREAM_REQUEST))
    answer = client.read_until(client.read_head(), STREAM[0])
    gw.signal(signal.SIGTERM)

    poll(lambda: not gw.connects(), "new connections to be refused")
    assert gw.process.poll() is None, "it left while a call was running"
    gate.open()
    assert client.read_rest(answer).body == b"".join(STREAM)
    assert gw.wait_end() == 0
    gw.judged = True


def test_sigterm_waits_for_running_calls_only_so_long(world):
    gate = Gate()
    up = world.upstream(lambda x: x.wait(gate))
    gw = world.serve(up, "--drain", "50ms")
    client = world.connect(gw)
    client.send(post(CHAT, CHAT_REQUEST))
    up.wait(lambda: len(up.requests) == 1, "the call")
    gw.signal(signal.SIGTERM)
    assert gw.wait_end() == 0  # the call never ends by itself
    gw.judged = True
    gate.open()


def test_a_burst_of_signals_ends_it_at_once(world):
    """More than two, some while the workers are still busy with the first ones."""
    gate = Gate()
    up = world.upstream(lambda x: x.wait(gate))
    gw = world.serve(up, workers=4)
    clients = [world.connect(gw) for _ in range(8)]
    for client in clients:
        client.send(post(CHAT, CHAT_REQUEST))
    up.wait(lambda: len(up.requests) == 8, "the calls")
    gw.signal(signal.SIGTERM)
    gw.wait_text("taking no new calls")  # signals that wait together count as one
    for _ in range(30):
        try:
            gw.signal(signal.SIGTERM)
        except ProcessLookupError:
            break
    assert gw.wait_end() == 0
    gw.judged = True
    gate.open()


def test_sigterm_ends_the_mock(world):
    mock = world.mock()
    assert world.connect(mock).ask(request("GET", "/v1/models")).status == 200
    mock.signal(signal.SIGTERM)
    assert mock.wait_end() == 0
    mock.judged = True


# --- secrets -----------------------------------------------------------------------------------------------------------------

def test_secrets_and_prompts_are_in_no_output(world):
    """Good and bad calls with secrets everywhere; the fixture looks for them in everything thaw printed."""
    up = world.upstream()
    gw = world.serve(config=f"""
        keys: ['${{CLIENT_KEY}}']
        upstreams:
          up: {{url: {up.url}, key: '${{UPSTREAM_KEY}}'}}
          dead: {{url: 'http://127.0.0.1:{free_port()}/v1', key: '${{UPSTREAM_KEY}}'}}
        models:
          gpt-x: {{use: [up]}}
          gone: {{use: [dead]}}
    """, env=KEYS)
    mine = [("Authorization", f"Bearer {KEYS['CLIENT_KEY']}")]
    for data in (post(CHAT, CHAT_REQUEST, mine), post(CHAT, CHAT_REQUEST, [("x-api-key", "sk-canary-wrong")]),
                 post(CHAT, {"model": "gone", "messages": "canary"}, mine), post(CHAT, b'{"prompt":"canary', mine),
                 post(CHAT, {"model": "unknown"}, mine), request("GET", "/nothing?key=sk-canary-query", mine),
                 post(CHAT, CHAT_REQUEST, [("Authorization", "Bearer sk-canary-wrong")])):
        answer = world.connect(gw).ask(data)
        assert KEYS["UPSTREAM_KEY"] not in repr(answer) and KEYS["CLIENT_KEY"] not in repr(answer)
        assert b"sk-canary" not in answer.body, answer
    assert f"Bearer {SECRET}".encode() in up.received()
