// SPDX-License-Identifier: MIT
// POST /embeddings: a unit vector for each input, the same for the same input, as numbers or as the base64 of
// little-endian floats, which is what the official SDKs ask for unless told otherwise.
#include "mock/answer.h"
#include "mock/ask.h"

// SplitMix64 (Steele, Lea, Flood 2014): well mixed from any seed.
static uint64_t mix(uint64_t x) {
    x += 0x9e3779b97f4a7c15u;
    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
    x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
    return x ^ (x >> 31);
}

// Newton's method: good to the last digit for what is asked here, and libm stays out.
static double square_root(double x) {
    double root = x > 1 ? x : 1;
    for (int i = 0; i < 60; i++) {
        root = (root + x / root) / 2;
    }
    return root;
}

static void make_vector(uint64_t seed, float *v, unsigned n) {
    double square = 0;
    for (unsigned i = 0; i < n; i++) {
        double x = (double)(mix(seed + i) >> 11) / (double)((uint64_t)1 << 52) - 1; // -1 to 1
        v[i] = (float)x;
        square += x * x;
    }
    double length = square_root(square);
    for (unsigned i = 0; i < n; i++) {
        v[i] = (float)(length > 0 ? (double)v[i] / length : 1);
    }
}

static void put_numbers(struct out *o, const float *v, unsigned n) {
    put_text(o, "[");
    for (unsigned i = 0; i < n; i++) {
        char text[32];
        int len = snprintf(text, sizeof text, "%s%.9g", i ? "," : "", (double)v[i]);
        put(o, str_from(text, (size_t)len));
    }
    put_text(o, "]");
}

// RFC 4648 section 4.
static void put_base64(struct out *o, const unsigned char *bytes, size_t n) {
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    put_text(o, "\"");
    for (size_t i = 0; i < n; i += 3) {
        uint32_t three = (uint32_t)bytes[i] << 16;
        three |= i + 1 < n ? (uint32_t)bytes[i + 1] << 8 : 0;
        three |= i + 2 < n ? (uint32_t)bytes[i + 2] : 0;
        char four[4] = {digits[three >> 18], digits[three >> 12 & 63], digits[three >> 6 & 63], digits[three & 63]};
        if (i + 2 >= n) {
            four[3] = '=';
            four[2] = i + 1 < n ? four[2] : '=';
        }
        put(o, str_from(four, sizeof four));
    }
    put_text(o, "\"");
}

static void put_floats(struct out *o, const float *v, unsigned n) {
    unsigned char bytes[ASK_DIMENSIONS_MAX * 4];
    for (unsigned i = 0; i < n; i++) {
        uint32_t bits;
        memcpy(&bits, &v[i], sizeof bits);
        for (unsigned byte = 0; byte < 4; byte++) {
            bytes[i * 4 + byte] = (unsigned char)(bits >> (8 * byte));
        }
    }
    put_base64(o, bytes, (size_t)n * 4);
}

static void list_open(struct answer *a UNUSED, struct out *o) { put_text(o, "{\"object\":\"list\",\"data\":["); }

static void list_vector(struct answer *a, struct out *o) {
    float v[ASK_DIMENSIONS_MAX];
    uint64_t seed;
    memcpy(&seed, a->text.ptr + a->token * sizeof seed, sizeof seed);
    make_vector(seed, v, a->dimensions);
    put(o, a->token ? STR(",") : STR(""));
    put_text(o, "{\"object\":\"embedding\",\"index\":");
    put_u64(o, a->token++);
    put_text(o, ",\"embedding\":");
    if (a->base64) {
        put_floats(o, v, a->dimensions);
    } else {
        put_numbers(o, v, a->dimensions);
    }
    put_text(o, "}");
}

static void list_close(struct answer *a, struct out *o) {
    put_text(o, "],\"model\":");
    put_json(o, a->model);
    put_text(o, ",\"usage\":{\"prompt_tokens\":");
    put_u64(o, a->prompt_tokens);
    put_text(o, ",\"total_tokens\":");
    put_u64(o, a->prompt_tokens);
    put_text(o, "}}\n");
}

static const struct step steps[] = {
    {.write = list_open},
    {.write = list_vector, .more = answer_more_tokens},
    {.write = list_close},
    {.write = NULL},
};
const struct script answer_embeddings = {STR_INIT("application/json"), true, steps, NULL};
