// SPDX-License-Identifier: MIT
// /ui: a page that looks at /admin/state every second. Its parts come from here and nowhere else, and what it shows it
// sets as text (its Content-Security-Policy allows nothing more).
#pragma once
#include "base/str.h"

extern const struct str page_html, page_js, page_css;
