// SPDX-License-Identifier: MIT
// What the lab says: answers, refusals, and who sits where.
#include <inttypes.h>

#include "lab/guest.h"

static void put_name(struct text *t, const char *name, const char *text) {
    put_format(t, "\"%s\":", name);
    put_json(t, str_c(text));
}

static double ms(uint64_t from_ns, uint64_t to_ns) { return (double)(to_ns - from_ns) / 1e6; }

// ---- a guest's answer

static void put_call(struct text *t, const struct call *c) {
    char name[SEAT_NAME];
    uint64_t arrived_ns = c->guest->arrived_ns;
    put_name(t, "seat", lab_call_seat(c, name));
    put_format(t, ",\"waited_ms\":%.3f,\"service_ms\":%.3f,\"waited_for\":", ms(arrived_ns, c->seated_ns),
               ms(c->seated_ns, c->done_ns));
    if (c->waited_for[0]) {
        put_json(t, str_c(c->waited_for));
    } else {
        put_text(t, "null");
    }
    put_text(t, ",");
    put_name(t, "thread", lab_call_thread(c, name));
    put_format(t, ",\"arrived_ns\":%" PRIu64 ",\"seated_ns\":%" PRIu64 ",\"done_ns\":%" PRIu64, arrived_ns,
               c->seated_ns, c->done_ns);
}

// Of several calls, what is said above the list is of the last one to be done: the one the user waited for.
void page_answer(struct text *t, const struct guest *g, const struct call *answer) {
    put_text(t, "{\"response\":");
    put_json(t, buf_str(&answer->answer));
    put_text(t, ",");
    put_name(t, "user_id", g->user);
    put_text(t, ",");
    put_name(t, "pattern", g->pattern->name);
    put_text(t, ",");
    put_call(t, g->last);
    for (unsigned i = 0; g->count > 1 && i < g->count; i++) {
        put(t, i ? STR(",{") : STR(",\"calls\":[{"));
        put_call(t, &g->calls[i]);
        put(t, i + 1 < g->count ? STR("}") : STR("}]"));
    }
    put_text(t, "}\n");
}

void page_error(struct text *t, int status, struct str message) {
    put_text(t, "{\"error\":{\"message\":");
    put_json(t, message);
    put_format(t, ",\"type\":\"%s\",\"param\":null,\"code\":null}}\n",
               status < 500 ? "invalid_request_error" : "server_error");
}

// ---- about the lab

void page_routes(struct text *t, struct lab *lab) {
    put_text(t, "thaw lab: the same slow call, run in five ways\n\n");
    for (size_t i = 0; pattern_at(i); i++) {
        put_format(t, "  POST %-17s %s\n", pattern_at(i)->path.ptr, pattern_at(i)->about);
    }
    put_text(t, "  GET  /seats            who sits where now\n"
                "  GET  /healthz          alive, with the loop's lag\n\n"
                "with ?user_id=NAME, ?calls=5 for five calls in parallel");
    if (!lab->options.upstream.model) {
        put_text(t, ", ?seconds=2 for the time one takes");
    }
    put_format(
        t, "\ndefault pool: %u threads; executor: %u threads\n\n  curl -X POST 'localhost:8004/to_thread?user_id=1'\n",
        lab->rooms[ROOM_DEFAULT].count, lab->rooms[ROOM_EXECUTOR].count);
}

void page_health(struct text *t, struct lab *lab) {
    put_format(t, "{\"status\":\"ok\",\"lag_ms\":%.3f}\n", (double)loop_lag_ns(lab->loop) / 1e6);
}

static void put_seat(struct text *t, const struct seat *seat, uint64_t now_ns) {
    const struct call *c = seat->sitting;
    char name[SEAT_NAME];
    put_text(t, "{");
    put_name(t, "thread", lab_call_thread(c, name));
    put_text(t, ",");
    put_name(t, "user_id", c->guest->user);
    put_text(t, ",");
    put_name(t, "pattern", c->guest->pattern->name);
    put_format(t, ",\"for_ms\":%.3f,\"waits_for\":", ms(seat->since_ns, MAX(now_ns, seat->since_ns)));
    if (c->state == CALL_HELD) { // has a thread, and nothing to do there yet
        put_json(t, str_c(lab_call_seat(c, name)));
    } else {
        put_text(t, "null");
    }
    put_format(t, ",\"left\":%s}", atomic_load(&c->guest->left) ? "true" : "false");
}

static void put_room(struct text *t, const struct room *room, uint64_t now_ns) {
    bool first = true;
    put_format(t, "\"%s\":{\"seats\":%u,\"taken\":%u,\"waiting\":%u,\"who\":[", room->name, room->count, room->taken,
               room->waiting);
    for (unsigned i = 0; i < room->count; i++) {
        if (room->seats[i].sitting) {
            put(t, first ? STR("") : STR(","));
            put_seat(t, &room->seats[i], now_ns);
            first = false;
        }
    }
    put_text(t, "]},");
}

void page_seats(struct text *t, struct lab *lab) {
    put_text(t, "{");
    for (unsigned i = 0; i < ROOM_COUNT; i++) {
        put_room(t, &lab->rooms[i], lab_now_ns(lab));
    }
    put_format(t, "\"loop\":{\"seats\":null,\"taken\":%u,\"waiting\":0}}\n", lab->in_flight);
}
