# SPDX-License-Identifier: MIT
"""examples/python and examples/node: each prints what its README says."""
import re
import shutil
import subprocess
import sys

import pytest

from process import ROOT, environment, with_parent
from waiting import LIMIT

EXAMPLES = ROOT / "examples"
SAID = re.compile(r"```\n\$ (?:python3|node) (\S+)\n(.*?)```", re.S)


def documented(name):
    """Each program of examples/NAME, and what its README says that it prints."""
    found = SAID.findall((EXAMPLES / name / "README.md").read_text())
    programs = {path.name for path in (EXAMPLES / name).iterdir() if path.suffix in (".py", ".js")}
    assert {program for program, _ in found} == programs, "each example is in the README"
    return [pytest.param(*pair, id=pair[0]) for pair in found]


def prints(world, command, said):
    gw = world.serve(None, "--mock")
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=6 * LIMIT,
                          preexec_fn=with_parent(), env=environment({"OPENAI_BASE_URL": gw.url + "/v1"}))
    assert done.returncode == 0, done.stderr
    seconds = re.compile(r"\d+\.\d s")
    assert seconds.sub("T", done.stdout) == seconds.sub("T", said), done.stderr


@pytest.mark.parametrize(("program", "said"), documented("python"))
def test_python(world, program, said):
    prints(world, [sys.executable, EXAMPLES / "python" / program], said)


@pytest.mark.parametrize(("program", "said"), documented("node"))
def test_node(world, node_folder, program, said):
    for name in ("node", "chat"):  # the SDK is found in the folders above
        shutil.copytree(EXAMPLES / name, node_folder / "examples" / name, dirs_exist_ok=True)
    prints(world, ["node", node_folder / "examples" / "node" / program], said)
