// SPDX-License-Identifier: MIT
// The shell of a report: one HTML file with everything in it, no script, nothing fetched, light and dark by the
// reader's setting, fit to be printed. What a report adds is its own style and what it says.
#pragma once
#include "base/out.h"

// Up to and with <main>. The style may use the colours --bg --fg --dim --line --card --ok --off and the classes dim,
// ok, off, scroll; a <section> is a card.
void page_begin(struct out *o, struct str title, const char *style);
void page_end(struct out *o);
