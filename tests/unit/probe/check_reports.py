# SPDX-License-Identifier: MIT
"""check_reports.py SAMPLES: the prober's reports, read by parsers that are not ours."""
import collections
import html.parser
import json
import pathlib
import re
import subprocess
import sys
import tempfile
import xml.etree.ElementTree as tree

SVG = "{http://www.w3.org/2000/svg}"
MEMBERS = ["model", "at_once", "tried_up_to", "solo_ms", "confidence", "runner_up", "cause", "canary", "self", "trials", "http", "max_streams", "one_connection"]
VOID = {"meta", "br", "hr", "img", "input", "link"}


class Tags(html.parser.HTMLParser):
    """Every element is closed, in order; nothing runs and nothing is fetched."""
    def __init__(self):
        super().__init__()
        self.open, self.text = [], ""

    def handle_starttag(self, tag, attributes):
        assert tag not in ("script", "iframe", "object", "link", "img"), tag
        for name, value in attributes:
            assert not name.startswith("on") and name not in ("src", "href"), (name, value)
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):  # <rect/>
        self.handle_starttag(tag, attributes)
        self.open.pop()

    def handle_endtag(self, tag):
        assert self.open and self.open.pop() == tag, tag

    def handle_data(self, data):
        self.text += data


def check_svg(path):
    root = tree.parse(path).getroot()
    assert root.tag == SVG + "svg" and root.find(SVG + "title").text and root.find(SVG + "desc").text
    _, _, width, height = map(float, root.get("viewBox").split())
    for rect in root.iter(SVG + "rect"):
        if rect.get("x"):
            x, y, w, h = (float(rect.get(name)) for name in ("x", "y", "width", "height"))
            assert 0 <= x and x + w <= width + 1 and 0 <= y and y + h <= height, (path, rect.attrib)
    for text in root.iter(SVG + "text"):
        assert 0 <= float(text.get("y")) <= height, (path, text.attrib)
    assert "url(" not in path.read_text() and "@import" not in path.read_text()


def check_html(path):
    tags = Tags()
    tags.feed(path.read_text())
    tags.close()
    assert not tags.open, tags.open
    assert "Verdict" in tags.text and "url(" not in path.read_text()


def check_json(path):
    report = json.loads(path.read_text())
    assert not [m for m in MEMBERS if m not in report], report.keys()
    assert report["at_once"] is None or report["at_once"] >= 1
    for trial in report["trials"]:
        for call in trial["calls"]:
            assert {"start_ms", "first_byte_ms", "end_ms", "status"} <= call.keys()
            assert call["end_ms"] is None or call["start_ms"] <= call["end_ms"]


def check_xml(path):
    suite = tree.parse(path).getroot().find("testsuite")
    case = suite.find("testcase")
    found = collections.Counter(child.tag for child in case)
    assert suite.get("tests") == "1" and len(suite.findall("testcase")) == 1
    for element, count in (("failure", "failures"), ("error", "errors"), ("skipped", "skipped")):
        assert int(suite.get(count)) == found[element], (path, element)
        assert found[element] == 0 or case.find(element).get("message")


def check_md(path):
    text = path.read_text()
    assert text.startswith("### ") and text.count("\n```") == 2
    outside = re.sub(r"(?s)\n```text\n.*?\n```\n", "\n", text)
    outside = re.sub(r"(?s)(?<![`\\])(`+)(?!`) .*? \1(?!`)", "", outside)  # code spans
    assert not re.search(r"(?<!\\)<", outside), (path, outside)


def check_txt(path):
    columns = int(path.name.split(".")[1])
    data = path.read_bytes()
    for line in data.decode().splitlines():
        assert len(line) <= columns or line.startswith("AGAIN "), (path, line)
    assert ".ascii." not in path.name or data.isascii()
    assert not re.search(rb"[\x00-\x09\x0b-\x1f\x7f]", data), path


def check_ansi(path):
    """Nothing but colours."""
    rest = re.sub(r"\x1b\[[0-9]*m", "", path.read_text())
    assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f]", rest), path
    assert all(len(line) <= 120 for line in rest.splitlines()[:-1]), path


def main():
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run([sys.argv[1], folder], check=True)
        paths = sorted(pathlib.Path(folder).iterdir())
        assert len(paths) > 100, len(paths)
        for path in paths:
            globals()["check_" + path.suffix[1:]](path)


main()
