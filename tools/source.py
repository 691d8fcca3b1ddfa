# SPDX-License-Identifier: MIT
"""What the checks share: the project's files, and C text without what is not code.

A check is an executable beside this file, check_NAME, with
    check(root) -> yields (path, line, message)
    BROKEN: [(files, path it must complain about)], FINE: [files], where files is {path: text}: its self-test.
tools/check runs them all; each also runs alone.
"""
import os
import re
import sys

SKIPPED_DIRS = {'.git', 'build', 'corpus', '__pycache__', 'node_modules', 'results'}


def files(root, *folders, ends):
    """Paths below the folders of root, relative to it, that end so; sorted."""
    found = []
    for folder in folders:
        for here, dirs, names in os.walk(os.path.join(root, folder)):
            dirs[:] = [d for d in dirs if d not in SKIPPED_DIRS]
            found += [os.path.relpath(os.path.join(here, n), root) for n in names if n.endswith(ends)]
    return sorted(found)


def read(root, path):
    with open(os.path.join(root, path), encoding='utf-8') as f:
        return f.read()


_NOT_CODE = re.compile(r'//[^\n]*|/\*.*?\*/|"(?:\\.|[^"\\\n])*"|\'(?:\\.|[^\'\\\n])*\'', re.S)
_DIRECTIVE = re.compile(r'^[ \t]*#(?:[^\n\\]|\\.|\\\n)*', re.M)


def _blank(match):
    return re.sub(r'[^\n]', ' ', match.group(0))


def code_of(text):
    """The same text with comments, literals and directives blanked: every offset and line stays what it was."""
    return _DIRECTIVE.sub(_blank, _NOT_CODE.sub(_blank, text))


def line_of(text, offset):
    return text.count('\n', 0, offset) + 1


def close_of(code, opened):
    """The offset of the brace that closes the one at `opened`."""
    depth = 0
    for brace in re.compile(r'[{}]').finditer(code, opened):
        depth += 1 if brace.group() == '{' else -1
        if depth == 0:
            return brace.start()
    return len(code)


ATTRIBUTE = re.compile(r'__attribute__\s*\(\(.*?\)\)|\b(?:PRINTF|NONNULL)\s*\([^)]*\)')


def statements(code):
    """What stands at file scope: (offset, text without the contents of braces, (start, end) of a function's body or
    None)."""
    start = at = 0
    text = ''
    while at < len(code):
        c = code[at]
        if c == '{':
            end = close_of(code, at)
            plain = ATTRIBUTE.sub('', text)
            if '=' not in plain and plain.rstrip().endswith(')'):
                yield start + len(text) - len(text.lstrip()), text.strip(), (at + 1, end)
                text, start = '', end + 1
            else:
                text += ' ' * (end + 1 - at) if '=' in plain else '{}' + ' ' * (end - 1 - at)
            at = end + 1
        elif c == ';':
            if text.strip():
                yield start + len(text) - len(text.lstrip()), text.strip(), None
            text, start, at = '', at + 1, at + 1
        else:
            text += c
            at += 1


def functions(code):
    """(name, offset of the body, body) of every function."""
    for _, text, body in statements(code):
        name = re.search(r'(\w+)\s*\(', ATTRIBUTE.sub('', text))
        if body and name:
            yield name.group(1), body[0], code[body[0]:body[1]]


def main(check):
    """For a check that is run alone: tools/check_NAME [ROOT]."""
    root = sys.argv[1] if len(sys.argv) > 1 else os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    problems = list(check(root))
    for path, line, message in problems:
        print(f'{path}:{line}: {message}')
    sys.exit(1 if problems else 0)
