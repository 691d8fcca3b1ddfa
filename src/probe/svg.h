// SPDX-License-Identifier: MIT
// The seats chart as an image that stands alone, and the report as one HTML file. Both are readable in light and dark,
// name no font, load nothing, and need no script.
#pragma once
#include "base/out.h"
#include "probe/report.h"

MUSTCHECK enum err svg_write(const struct probe_report *r, struct buf *out);
MUSTCHECK enum err html_write(const struct probe_report *r, struct buf *out);
// The image without background and headline, for a page that has both.
void put_svg(struct out *o, const struct probe_report *r);
