# SPDX-License-Identifier: MIT
"""Chromium without a window, driven by its DevTools protocol over a pair of pipes: no port, no driver, no library."""
import itertools
import json
import os
import shutil
import signal
import subprocess
import tempfile
import threading

from process import environment, with_parent
from waiting import Board, poll

LIMIT = 90.0  # a browser takes its time on a busy machine


class Browser:
    def __init__(self, *options):
        self.board = Board()
        self.answers, self.sessions, self.ended = {}, {}, False
        self.numbers = itertools.count(1)
        self.folder = tempfile.mkdtemp(prefix="thaw-chromium-")
        self.log = open(os.path.join(self.folder, "log"), "w+b")
        commands, self.to = os.pipe()
        self.answers_from, events = os.pipe()

        def three_and_four():  # where --remote-debugging-pipe looks
            low, high = os.dup(commands), os.dup(events)
            low, high = (os.dup(fd) if fd in (3, 4) else fd for fd in (low, high))
            os.dup2(low, 3)
            os.dup2(high, 4)
        # No sandbox: it refuses to run as root. No /dev/shm: containers have a small one.
        self.process = subprocess.Popen(
            ["chromium", "--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu", "--no-first-run",
             "--disable-background-networking", "--disable-component-update", "--disable-sync", "--disable-extensions",
             "--disable-default-apps", "--no-default-browser-check", "--no-proxy-server", "--password-store=basic",
             "--disable-background-timer-throttling", "--disable-renderer-backgrounding",
             "--disable-backgrounding-occluded-windows", f"--user-data-dir={self.folder}/profile",
             "--remote-debugging-pipe", *options, "about:blank"],
            stdin=subprocess.DEVNULL, stdout=self.log, stderr=self.log, env=environment({"HOME": self.folder}),
            start_new_session=True, close_fds=False, preexec_fn=with_parent(three_and_four))
        os.close(commands)
        os.close(events)
        self.thread = threading.Thread(target=self._listen, daemon=True)
        self.thread.start()
        self.ask("Browser.getVersion")

    def _listen(self):
        left = b""
        while data := os.read(self.answers_from, 1 << 16):
            *whole, left = (left + data).split(b"\0")
            for message in map(json.loads, whole):
                with self.board.changed:
                    if "id" in message:
                        self.answers[message["id"]] = message
                    elif page := self.sessions.get(message.get("sessionId")):
                        page.on_event(message["method"], message["params"])
                    self.board.announce()
        self.ended = True
        self.board.announce()

    def said(self):
        self.log.flush()
        with open(self.log.name, errors="replace") as file:
            return file.read()[-4000:]

    def ask(self, method, session=None, **parameters):
        number = next(self.numbers)
        message = {"id": number, "method": method, "params": parameters, **({"sessionId": session} if session else {})}
        data = json.dumps(message).encode() + b"\0"
        while data:
            data = data[os.write(self.to, data):]

        def answered():
            assert not self.ended, f"chromium is gone: {self.said()}"
            return self.answers.pop(number, None)
        answer = self.board.wait(answered, f"chromium's answer to {method}", LIMIT)
        assert "error" not in answer, f"{method}: {answer['error']}"
        return answer["result"]

    def user(self):
        """Somebody new, who has stored nothing: a function that opens a tab of theirs."""
        context = self.ask("Target.createBrowserContext", disposeOnDetach=True)["browserContextId"]

        def tab(url, **more):
            return Page(self, context, **more).go(url)
        tab.leave = lambda: self.ask("Target.disposeBrowserContext", browserContextId=context)
        return tab

    def close(self):
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        self.thread.join(LIMIT)
        for fd in (self.to, self.answers_from):
            os.close(fd)
        self.log.close()
        shutil.rmtree(self.folder, ignore_errors=True)


class Page:
    def __init__(self, browser, context, width=None, height=None, dark=False):
        self.browser = browser
        self.problems = []
        self.loaded = 0
        self.target = browser.ask("Target.createTarget", url="about:blank", browserContextId=context)["targetId"]
        self.session = browser.ask("Target.attachToTarget", targetId=self.target, flatten=True)["sessionId"]
        browser.sessions[self.session] = self
        for domain in ("Page", "Runtime"):
            self.ask(f"{domain}.enable")
        if width:
            self.ask("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1,
                     mobile=width < 600)
        self.ask("Emulation.setEmulatedMedia", features=[
            {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}])

    def on_event(self, method, parameters):
        if method == "Page.loadEventFired":
            self.loaded += 1
        elif method == "Runtime.exceptionThrown":
            self.problems.append(parameters["exceptionDetails"])

    def ask(self, method, **parameters):
        return self.browser.ask(method, self.session, **parameters)

    def _load(self, method, **parameters):
        before = self.loaded
        self.ask(method, **parameters)
        self.browser.board.wait(lambda: self.loaded > before, "the page to load", LIMIT)
        return self

    def go(self, url):
        return self._load("Page.navigate", url=url)

    def reload(self):
        return self._load("Page.reload")

    def js(self, expression):
        """The value of an expression, of a promise too."""
        result = self.ask("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in result, f"{expression}: {result['exceptionDetails']}"
        return result["result"].get("value")

    def wait(self, expression):
        """Until it is true in the page; its value."""
        return poll(lambda: self.js(expression),
                    lambda: f"{expression}; the page shows: {self.js('document.body.innerText')!r}", LIMIT, every=0.02)

    def text(self, selector):
        return self.js(f"document.querySelector({json.dumps(selector)})?.textContent")

    def click(self, selector):
        self.js(f"document.querySelector({json.dumps(selector)}).click()")

    def screenshot(self):
        return self.ask("Page.captureScreenshot", format="png")["data"]

    def close(self):
        self.browser.ask("Target.closeTarget", targetId=self.target)
