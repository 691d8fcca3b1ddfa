# SPDX-License-Identifier: MIT
"""A client of the admin listener."""
from prometheus_client.parser import text_string_to_metric_families

from rawhttp import Client, request


class Admin:
    def __init__(self, world, port, host="127.0.0.1"):
        self.world, self.port, self.host = world, port, host

    def ask(self, target, fields=(), method="GET", host=None, body=None):
        client = Client(self.port)
        try:
            return client.ask(request(method, target, fields, body, host=f"{self.host}:{self.port}" if host is None else host), method)
        finally:
            client.close()

    def state(self):
        return self.ask("/admin/state").json()

    def metrics(self):
        """{family: {(sample's name, labels without le): value}}, after the parser of Prometheus' own client."""
        answer = self.ask("/metrics")
        assert answer["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
        families = list(text_string_to_metric_families(bytes(answer.body).decode()))
        names = [family.name for family in families]
        assert len(set(names)) == len(names), "a family occurs twice"
        assert all(family.documentation and family.type != "unknown" for family in families)
        return {family.name: {(s.name, *sorted(s.labels.items())): s.value for s in family.samples} for family in families}
