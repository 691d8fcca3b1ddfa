# SPDX-License-Identifier: MIT
"""The world of a test: gateways, mocks, upstreams and clients, ended in the right order and judged at the end."""
import os
import sys
import textwrap

import pytest

sys.path.insert(0, os.path.dirname(__file__))

import process  # noqa: E402
import rawhttp  # noqa: E402
import upstream  # noqa: E402


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

    def serve(self, to=None, *args, config=None, workers=1, ready=True, **more):
        """A gateway that listens. to: an Upstream or URL to relay to; config: YAML text instead."""
        if config is not None:
            args = ("--config", self.config(config), *args)
        if to is not None:
            args = ("--upstream", getattr(to, "url", to), *args)
        if workers:
            args = (*args, "--workers", workers)
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


def pytest_runtest_makereport(item, call):
    """A failed test tells what its gateways said."""
    world = getattr(item, "funcargs", {}).get("world")
    if call.excinfo and world:
        for thaw in world.thaws:
            item.add_report_section(call.when, f"stderr of {' '.join(thaw.command[1:])}", thaw.text[-8000:])
