# SPDX-License-Identifier: MIT
"""The world of a test: gateways, mocks, upstreams and clients, ended in the right order and judged at the end."""
import json
import os
import pathlib
import shutil
import subprocess
import sys
import textwrap

import pytest

sys.path.insert(0, os.path.dirname(__file__))

import browser  # noqa: E402
import process  # noqa: E402
import rawhttp  # noqa: E402
import upstream  # noqa: E402
from waiting import LIMIT  # noqa: E402

NODE_PACKAGES = ["openai@6", "@anthropic-ai/sdk@0.137"]  # openai 7 needs Node.js 22
HERE = pathlib.Path(__file__).resolve().parent


def pytest_sessionstart(session):
    if not os.access(process.THAW, os.X_OK):
        pytest.exit(f"there is no thaw at {process.THAW}: build it, or set THAW", returncode=2)


def pytest_sessionfinish(session, exitstatus):
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    if reporter and reporter.stats.get("skipped") and exitstatus == 0:
        session.exitstatus = 1  # a skipped test is a failure


class World:
    def __init__(self, folder):
        self.folder = folder
        self.clients, self.thaws, self.upstreams, self.other = [], [], [], []

    def upstream(self, script=None, **more):
        up = upstream.Upstream(script, **more)
        self.upstreams.append(up)
        return up

    def config(self, text, name="thaw.yaml"):
        path = self.folder / name
        path.write_text(textwrap.dedent(text))
        return path

    def serve(self, to=None, *args, config=None, workers=1, ready=True, admin="off", **more):
        """A gateway that listens. to: an Upstream or URL to relay to; config: YAML text instead. admin: a port, or off
        (its default port is there once)."""
        if config is not None:
            args = ("--config", self.config(config), *args)
        if to is not None:
            args = ("--upstream", getattr(to, "url", to), *args)
        if workers:
            args = (*args, "--workers", workers)
        if admin:
            args = (*args, "--admin", admin if admin == "off" else f"127.0.0.1:{admin}")
        return self._start("serve", args, ready, more)

    def mock(self, *args, ready=True, **more):
        return self._start("mock", args, ready, more)

    def lab(self, *args, ready=True, **more):
        return self._start("lab", args, ready, more)

    def _start(self, verb, args, ready, more):
        thaw = process.Thaw(verb, *args, **more)
        self.thaws.append(thaw)
        return thaw.wait_ready() if ready else thaw

    def connect(self, to, **more):
        client = rawhttp.Client(getattr(to, "port", to), **more)
        self.clients.append(client)
        return client

    def gateway(self, script=None, *args, **more):
        """What most tests need: an upstream with this script, a gateway in front of it, a client."""
        up = self.upstream(script)
        gw = self.serve(up, *args, **more)
        return up, gw, self.connect(gw)

    def end(self):
        problems = []
        # Clients first: a gateway that is told to end waits for the calls of clients that are still there.
        for things, how in ((self.clients, "close"), (self.thaws, "stop"), (self.upstreams, "stop"),
                            (self.other, "close")):
            for thing in reversed(things):
                try:
                    getattr(thing, how)()
                except BaseException as problem:
                    problems.append(problem)
        if problems:
            raise problems[0]


@pytest.fixture
def world(tmp_path):
    world = World(tmp_path)
    yield world
    world.end()


@pytest.fixture(scope="session")
def chromium():
    chromium = browser.Browser()
    yield chromium
    chromium.close()


@pytest.fixture
def tab(world, chromium):
    """Opens a tab; all of them are one user's."""
    tab = chromium.user()
    yield tab
    tab.leave()


@pytest.fixture(scope="session")
def node_folder():
    """Where the npm SDKs are. They are installed once, into THAW_TEST_CACHE (build/test-cache)."""
    folder = pathlib.Path(os.environ.get("THAW_TEST_CACHE") or process.ROOT / "build" / "test-cache") / "node"
    stamp = folder / "installed"
    wanted = " ".join(NODE_PACKAGES)
    if not stamp.exists() or stamp.read_text() != wanted:
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        (folder / "package.json").write_text('{"private": true, "type": "module"}\n')
        done = subprocess.run(["npm", "install", "--no-audit", "--no-fund", "--ignore-scripts", *NODE_PACKAGES], cwd=folder,
                              stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=300)
        assert done.returncode == 0, f"npm could not install {wanted}: {done.stderr}"
        stamp.write_text(wanted)
    for script in HERE.glob("*.mjs"):
        shutil.copy(script, folder)
    return folder


@pytest.fixture
def node(node_folder, world):
    """node(case, gateway): what the case printed. With talk=True the running process itself."""
    def start(case, gw, *more, talk=False, script="sdk_node.mjs"):
        child = subprocess.Popen(["node", script, case, f"{gw.url}/v1", *more], cwd=node_folder, text=True,
                                 stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                                 env={k: v for k, v in os.environ.items() if not k.startswith(("OPENAI_", "ANTHROPIC_"))})
        started.append(child)
        if talk:
            return child
        out, err = child.communicate(timeout=3 * LIMIT)
        assert child.returncode == 0, err
        return json.loads(out)
    started = []
    yield start
    for child in started:
        if child.poll() is None:
            child.kill()
        child.communicate()


def pytest_runtest_makereport(item, call):
    """A failed test tells what its gateways said."""
    world = getattr(item, "funcargs", {}).get("world")
    if call.excinfo and world:
        for thaw in world.thaws:
            item.add_report_section(call.when, f"stderr of {' '.join(thaw.command[1:])}", thaw.text[-8000:])
