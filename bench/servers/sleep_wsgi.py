# SPDX-License-Identifier: MIT
"""For gunicorn: a WSGI app whose route sleeps, as one that waits for a model does."""
import os
import time

SECONDS = float(os.environ["SECONDS"])


def app(environ, start_response):
    if environ["PATH_INFO"] != "/healthz":
        environ["wsgi.input"].read()
        time.sleep(SECONDS)
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", "3")])
    return [b"ok\n"]
