// SPDX-License-Identifier: MIT
// Text that may come from anywhere, put where it must not do anything but be read: each function makes it inert for one
// place. And text broken into lines.
#pragma once
#include <stdbool.h>

#include "base/out.h"

// Into XML 1.0 and HTML, as text or as an attribute between double quotes. What XML has no place for (control
// characters, U+FFFE, U+FFFF) and what is not UTF-8 becomes U+FFFD; tab and line feed stay.
void put_xml(struct out *o, struct str s);
// Into a terminal: printable ASCII, a '?' for each other character. So a character is a column, too.
void put_plain(struct out *o, struct str s);
// Into Markdown as a code span, in which GitHub makes no link, no mention and no HTML of anything. On one line.
void put_code_span(struct out *o, struct str s);
// Into Markdown as running text, on one line.
void put_markdown(struct out *o, struct str s);

// Takes the next line of at most `columns` bytes off the front of *rest, broken between words (not before a unit:
// "20 s"), else within one; false when nothing is left. Made for text that went through put_plain, or is ours.
// `columns` is not 0.
bool text_wrap(struct str *rest, size_t columns, struct str *line);
// As lines that end before column `columns`, each with its line feed; the first begins where the text is, at column
// `indent`, the others behind as many blanks.
void put_paragraph(struct out *o, struct str words, unsigned indent, unsigned columns);
