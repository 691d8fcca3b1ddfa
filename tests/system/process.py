# SPDX-License-Identifier: MIT
"""Runs the binary under test: start, wait until it listens, look at it from outside, end it, judge how it ended."""
import contextlib
import ctypes
import os
import pathlib
import random
import re
import signal
import socket
import subprocess
import threading

from waiting import LIMIT, Board, poll

ROOT = pathlib.Path(__file__).resolve().parents[2]
THAW = os.environ.get("THAW") or str(ROOT / "build" / "thaw")
SANITIZER = re.compile(rb"(ERROR: (Address|Leak|Memory)Sanitizer|WARNING: ThreadSanitizer|runtime error:|"
                       rb"Sanitizer:DEADLYSIGNAL|AddressSanitizer:)")
ASSERTION = re.compile(rb"[Aa]ssertion .*failed")
COLOUR = b"\x1b["
CANARY = b"canary"  # every secret and every prompt in this suite has it: none may be in what thaw prints


def free_port(host="127.0.0.1"):
    """A port outside the range the kernel hands out to outgoing connections, so that none of those takes it."""
    while True:
        port = random.randrange(10000, 32000)
        probe = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
        try:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((host, port))
            return port
        except OSError:
            continue
        finally:
            probe.close()


def environment(extra=None):
    """The caller's, without what would change thaw's behaviour; sanitizer options stay."""
    env = {k: v for k, v in os.environ.items()
           if not k.startswith(("OPENAI_", "ANTHROPIC_", "THAW")) and not k.lower().endswith("_proxy")}
    env.update(extra or {})
    return env


def sanitized():
    """Which sanitizer the binary was built with: "", "address" or "thread". Memory bounds differ."""
    if not hasattr(sanitized, "value"):
        with open(THAW, "rb") as file:
            image = file.read()
        sanitized.value = "thread" if b"__tsan_init" in image else "address" if b"__asan_init" in image else ""
    return sanitized.value


def memory_bound(plain_bytes):
    """How much resident memory may grow: sanitizers keep freed memory for a while and shadow it."""
    return plain_bytes + {"": 0, "address": 40 << 20, "thread": 64 << 20}[sanitized()]


def timeouts(**values):
    """The YAML for timeouts in a flow mapping, an upstream's or the general ones: timeouts(first_byte="300ms")."""
    return "timeouts: {" + ", ".join(f"{name}: {value}" for name, value in values.items()) + "}"


class Result:
    def __init__(self, code, out, err):
        self.code, self.out, self.err = code, out, err

    def __repr__(self):
        return f"exit {self.code}\nstdout: {self.out}\nstderr: {self.err}"


def check_output(raw, secret=CANARY):
    """What no output of thaw may ever contain. secret: another one, where the tool itself speaks of canaries."""
    assert not SANITIZER.search(raw), f"a sanitizer reported:\n{raw.decode(errors='replace')}"
    assert not ASSERTION.search(raw), f"an assertion failed:\n{raw.decode(errors='replace')}"
    assert secret not in raw, f"a secret or a prompt was printed:\n{raw.decode(errors='replace')}"
    assert COLOUR not in raw, f"colours without a terminal:\n{raw.decode(errors='replace')}"


LIBC = ctypes.CDLL(None)
PR_SET_PDEATHSIG = 1
PR_SET_CHILD_SUBREAPER = 36


def with_parent(before=None):
    """Run in the child before exec: it dies with this test run, however that ends."""
    def prepare():
        LIBC.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        if before:
            before()
    return prepare


def run(*args, env=None, timeout=LIMIT, before=None, secret=CANARY):
    """thaw with these arguments, to its end, which has to come by itself."""
    try:
        done = subprocess.run([THAW, *map(str, args)], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                              stderr=subprocess.PIPE, env=environment(env), timeout=timeout,
                              preexec_fn=with_parent(before))
    except subprocess.TimeoutExpired as still:
        raise AssertionError(f"thaw {' '.join(map(str, args))} did not end by itself; it said "
                             f"{(still.stderr or b'').decode(errors='replace')}") from None
    check_output(done.stdout + done.stderr, secret)
    assert done.returncode >= 0, f"ended by signal {-done.returncode}: {done.stderr.decode(errors='replace')}"
    return Result(done.returncode, done.stdout.decode(), done.stderr.decode())


def listening(pid):
    """How many of a process's descriptors are listening sockets; 0 when it has ended."""
    if not os.path.exists(f"/proc/{pid}"):
        return 0
    inodes = {line.split()[9] for name in ("tcp", "tcp6") for line in open(f"/proc/net/{name}").readlines()[1:]
              if line.split()[3] == "0A"}
    count = 0
    try:
        for name in os.listdir(f"/proc/{pid}/fd"):
            with contextlib.suppress(FileNotFoundError):
                link = os.readlink(f"/proc/{pid}/fd/{name}")
                count += link.startswith("socket:[") and link[8:-1] in inodes
    except (FileNotFoundError, PermissionError):  # it ended just now
        return 0
    return count


class Successor:
    """The process that a thaw started and handed over to; this test run's own child once that one has ended."""

    def __init__(self, pid):
        self.pid = pid
        self.returncode = None

    def poll(self):
        if self.returncode is None:
            try:
                pid, status = os.waitpid(self.pid, os.WNOHANG)
            except ChildProcessError:
                return None  # still the other one's
            if pid:
                self.returncode = os.waitstatus_to_exitcode(status)
        return self.returncode

    def wait(self, timeout=None):
        try:
            poll(lambda: self.poll() is not None, "a process to end", timeout or LIMIT)
        except AssertionError:
            raise subprocess.TimeoutExpired("thaw", timeout or LIMIT) from None
        return self.returncode

    def send_signal(self, number):
        os.kill(self.pid, number)

    def kill(self):
        self.send_signal(signal.SIGKILL)


class Thaw:
    """A running thaw that listens."""

    def __init__(self, verb, *args, port=None, env=None, before=None, host="127.0.0.1", listen=True,
                 wrap=([], ())):
        self.port = port or free_port()
        self.host = host
        self.board = Board()
        self.err = bytearray()
        self.out = bytearray()
        self.judged = False
        self.upgrades = 0
        command = [THAW, verb, *map(str, args)]
        if listen:
            command += ["--listen", f"{host}:{self.port}"]
        self.command = [*wrap[0], *command]  # what starts it, and the descriptors that needs
        self.process = subprocess.Popen(self.command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                                        stderr=subprocess.PIPE, env=environment(env), preexec_fn=with_parent(before),
                                        pass_fds=wrap[1])
        self.started = self.process
        self.pid = self.process.pid
        self.threads = [threading.Thread(target=self._collect, args=pair, daemon=True)
                        for pair in ((self.process.stdout, self.out), (self.process.stderr, self.err))]
        for thread in self.threads:
            thread.start()

    def _collect(self, pipe, into):
        while data := pipe.read1(1 << 16):
            with self.board.changed:
                into += data
                self.board.announce()
        self.started.wait()
        self.board.announce()

    @property
    def url(self):
        return f"http://{self.host}:{self.port}"

    @property
    def text(self):
        with self.board.changed:
            return self.err.decode(errors="replace")

    def wait_ready(self):
        """It says that it listens (so it is not somebody else who does) and takes connections."""
        said = re.compile(rb"(?i)listening on \S*:%d\b" % self.port)

        def alive(value):
            assert self.process.poll() is None, f"{self.command} ended with {self.process.poll()}: {self.text}"
            return value
        self.board.wait(lambda: alive(said.search(self.err)), f"{self.command} to say that it listens")
        poll(lambda: alive(self.connects()), lambda: f"{self.command} to listen; it said: {self.text}", every=0.002)
        return self

    def connects(self):
        with socket.socket(socket.AF_INET6 if ":" in self.host else socket.AF_INET) as probe:
            probe.settimeout(1)
            return probe.connect_ex((self.host, self.port)) == 0

    def wait_text(self, pattern):
        return self.board.wait(lambda: re.search(pattern, self.err.decode(errors="replace")),
                               f"{pattern!r} on stderr; there is {self.err.decode(errors='replace')}")

    # --- from outside --------------------------------------------------------------------------------------------------

    def status(self, name):
        """A size of /proc/PID/status in bytes (VmRSS, VmHWM) or a number (Threads)."""
        text = pathlib.Path(f"/proc/{self.pid}/status").read_text()
        value = re.search(rf"^{name}:\s+(\d+)( kB)?$", text, re.M)
        return int(value[1]) * (1024 if value[2] else 1)

    def forget_peak(self):
        """VmHWM starts again from what is resident now; the value."""
        pathlib.Path(f"/proc/{self.pid}/clear_refs").write_text("5")
        return self.status("VmHWM")

    def descriptors(self):
        return len(os.listdir(f"/proc/{self.pid}/fd"))

    def settles_at(self, descriptors):
        poll(lambda: self.descriptors() <= descriptors,
             lambda: f"the descriptors to go back to {descriptors}; there are {self.descriptors()}")

    def freeze(self):
        """Stops the process until thaw(): what arrives meanwhile it will see all at once, in the order of arrival."""
        self.signal(signal.SIGSTOP)
        poll(lambda: pathlib.Path(f"/proc/{self.pid}/stat").read_text().rsplit(")", 1)[1].split()[0] == "T",
             "the process to be stopped")

    def thaw(self):
        self.signal(signal.SIGCONT)

    def upgrade(self):
        """The binary on disk takes over: from now on this is the new process, and alone accepts. The old one, which is
        draining."""
        LIBC.prctl(PR_SET_CHILD_SUBREAPER, 1)
        self.upgrades += 1
        said = rf"(?s)(?:the new thaw serves \(process (\d+)\).*?){{{self.upgrades}}}"
        self.signal(signal.SIGUSR2)
        self.pid = int(self.wait_text(said)[1])
        old, self.process = self.process, Successor(self.pid)
        poll(lambda: listening(old.pid) == 0, "the old process to accept nothing more")
        return old

    # --- the end ---------------------------------------------------------------------------------------------------------

    def signal(self, number):
        self.process.send_signal(number)

    def wait_end(self, limit=LIMIT):
        code = self.process.wait(limit)
        for thread in self.threads:
            thread.join(limit)
        return code

    def stop(self):
        """SIGTERM; then it must end by itself, with 0, and must not have said what no output may contain."""
        if self.judged:
            return
        self.judged = True
        ended_before = self.process.poll()
        if ended_before is None:
            self.signal(signal.SIGTERM)
        try:
            code = self.wait_end()
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.wait_end()
            check_output(bytes(self.err + self.out))
            raise AssertionError(f"did not end {LIMIT:g} s after SIGTERM; it said: {self.text}") from None
        check_output(bytes(self.err + self.out))
        assert ended_before is None, f"thaw was gone before the test was over, with {code}: {self.text}"
        assert code == 0, f"thaw ended with {code}: {self.text}"
