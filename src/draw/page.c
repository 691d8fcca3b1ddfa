// SPDX-License-Identifier: MIT
#include "draw/page.h"

#include "draw/text.h"

static const char before_title[] = "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n"
                                   "<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n"
                                   "<meta name=\"color-scheme\" content=\"light dark\">\n<title>";

static const char style_of_all[] =
    ":root{--bg:#fbfbfa;--fg:#1d2327;--dim:#5f6972;--line:#dfe3e6;--card:#fff;--ok:#1f7a5c;--off:#b3261e}\n"
    "@media (prefers-color-scheme:dark){:root{--bg:#14181b;--fg:#e6eaed;--dim:#97a1a9;--line:#2d3439;--card:#1b2024;"
    "--ok:#5cc7a1;--off:#ff8a80}}\n"
    "*{box-sizing:border-box}body{margin:0;background:var(--bg);color:var(--fg);font:16px/1.5 system-ui,sans-serif}\n"
    "main{max-width:1040px;margin:0 auto;padding:32px 20px 64px}h1{font-size:1.7rem;line-height:1.25;margin:0 0 .3em}"
    "h2{font-size:1.1rem;margin:0 0 .2em}\np{margin:.2em 0 .8em}.dim{color:var(--dim)}"
    "section{background:var(--card);border:1px solid var(--line);border-radius:10px;padding:18px 20px;margin:22px 0}\n"
    ".scroll{overflow-x:auto}a{color:inherit}.ok{color:var(--ok)}.off{color:var(--off);font-weight:700}\n"
    "@media print{main{max-width:none;padding:0}section{break-inside:avoid}"
    "*{print-color-adjust:exact;-webkit-print-color-adjust:exact}}\n";

void page_begin(struct out *o, struct str title, const char *style) {
    put(o, str_c(before_title));
    put_xml(o, title);
    put_text(o, "</title>\n<style>\n");
    put(o, str_c(style_of_all));
    put(o, str_c(style));
    put_text(o, "</style>\n</head>\n<body>\n<main>\n");
}

void page_end(struct out *o) { put_text(o, "</main>\n</body>\n</html>\n"); }
