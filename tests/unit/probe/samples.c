// SPDX-License-Identifier: MIT
// unit-probe-samples FOLDER: every sample in every kind of report, to be looked at and to be read by other programs
// (check_reports.py).
#include "samples.h"

enum { CAP = 1 << 26 };

static bool save(const char *folder, const char *name, const char *kind, struct buf *text, enum err e) {
    char path[4096];
    snprintf(path, sizeof path, "%s/%s.%s", folder, name, kind);
    FILE *file = e == OK ? fopen(path, "w") : NULL;
    bool saved = file && fwrite(buf_str(text).ptr, 1, buf_len(text), file) == buf_len(text);
    if (!file || fclose(file) != 0 || !saved) {
        fprintf(stderr, "%s: not written: %s\n", path, err_text(e));
        return false;
    }
    buf_clear(text);
    return true;
}

static bool save_all(const char *folder, const char *name, const struct probe_report *r) {
    static const struct {
        const char *kind;
        struct picture_options options;
    } pictures[] = {{"80.txt", {80, false, false}},
                    {"80.ascii.txt", {80, true, false}},
                    {"120.txt", {120, false, false}},
                    {"120.ansi", {120, false, true}}};
    static const struct {
        const char *kind;
        enum err (*write)(const struct probe_report *r, struct buf *out);
    } kinds[] = {
        {"svg", svg_write}, {"html", html_write}, {"json", json_write}, {"md", markdown_write}, {"xml", junit_write}};
    struct buf text;
    bool saved = true;
    buf_init(&text, CAP);
    for (size_t i = 0; i < ARRAY_LEN(kinds); i++) {
        enum err e = kinds[i].write(r, &text);
        saved = save(folder, name, kinds[i].kind, &text, e) && saved;
    }
    for (size_t i = 0; i < ARRAY_LEN(pictures); i++) {
        enum err e = picture_write(r, &pictures[i].options, &text);
        saved = save(folder, name, pictures[i].kind, &text, e) && saved;
    }
    buf_finish(&text);
    return saved;
}

int main(int argc, char **argv) {
    static struct sample m;
    bool saved = argc == 2;
    for (size_t i = 0; saved && i < ARRAY_LEN(sample_plans); i++) {
        sample_make(&m, &sample_plans[i]);
        saved = save_all(argv[1], sample_plans[i].name, &m.report);
    }
    if (saved) {
        sample_make(&m, &sample_plans[0]);
        m.report.target = STR("http://h/\"><script>alert(1)</script>&'`]]>--\x1b[31m\x07\xff\xed\xa0\x80");
        m.report.command = "thaw probe 'http://h/</code><script>' -H '```'";
        saved = save_all(argv[1], "hostile", &m.report);
    }
    return saved ? 0 : 1;
}
