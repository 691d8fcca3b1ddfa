# SPDX-License-Identifier: MIT
"""Waiting without sleeping: everything that happens in another thread is announced under one lock.

No test measures time. A wait ends as soon as what it waits for is there; LIMIT only decides when a test gives up,
so it is generous (sanitizers make a program up to twenty times slower).
"""
import threading
import time

LIMIT = 20.0   # seconds until a test gives up on something that has to happen
QUIET = 0.8    # seconds without any progress that count as "nothing moves any more"


class Board:
    """A condition variable that several threads announce changes on."""

    def __init__(self):
        self.changed = threading.Condition(threading.RLock())

    def announce(self):
        with self.changed:
            self.changed.notify_all()

    def wait(self, predicate, what, limit=LIMIT):
        """Until predicate() is true; its value is returned. `what` finishes the sentence "waited in vain for"."""
        end = time.monotonic() + limit
        with self.changed:
            while True:
                value = predicate()
                if value:
                    return value
                left = end - time.monotonic()
                if left <= 0:
                    raise AssertionError(f"waited {limit:g} s in vain for {what}")
                self.changed.wait(left)


def poll(predicate, what, limit=LIMIT, every=0.01):
    """For what nobody can announce (a /proc file, a port): looked at again and again until true."""
    end = time.monotonic() + limit
    while True:
        value = predicate()
        if value:
            return value
        if time.monotonic() > end:
            raise AssertionError(f"waited {limit:g} s in vain for {what() if callable(what) else what}")
        time.sleep(every)
