// SPDX-License-Identifier: MIT
// What the lab says: answers, refusals, and who sits where.
#include <inttypes.h>

#include "lab/guest.h"

static void put_name(struct out *o, const char *name, const char *text) {
    put_format(o, "\"%s\":", name);
    put_json(o, str_c(text));
}

static double ms(uint64_t from_ns, uint64_t to_ns) { return (double)(to_ns - from_ns) / 1e6; }

// ---- a guest's answer

static void put_call(struct out *o, const struct call *c) {
    char name[SEAT_NAME];
    uint64_t arrived_ns = c->guest->arrived_ns;
    put_name(o, "seat", lab_call_seat(c, name));
    put_format(o, ",\"waited_ms\":%.3f,\"service_ms\":%.3f,\"waited_for\":", ms(arrived_ns, c->seated_ns),
               ms(c->seated_ns, c->done_ns));
    if (c->waited_for[0]) {
        put_json(o, str_c(c->waited_for));
    } else {
        put_text(o, "null");
    }
    put_text(o, ",");
    put_name(o, "thread", lab_call_thread(c, name));
    put_format(o, ",\"arrived_ns\":%" PRIu64 ",\"seated_ns\":%" PRIu64 ",\"done_ns\":%" PRIu64, arrived_ns,
               c->seated_ns, c->done_ns);
}

// Of several calls, what is said above the list is of the last one to be done: the one the user waited for.
void page_answer(struct out *o, const struct guest *g, const struct call *answer) {
    put_text(o, "{\"response\":");
    put_json(o, buf_str(&answer->answer));
    put_text(o, ",");
    put_name(o, "user_id", g->user);
    put_text(o, ",");
    put_name(o, "pattern", g->pattern->name);
    put_text(o, ",");
    put_call(o, g->last);
    for (unsigned i = 0; g->count > 1 && i < g->count; i++) {
        put(o, i ? STR(",{") : STR(",\"calls\":[{"));
        put_call(o, &g->calls[i]);
        put(o, i + 1 < g->count ? STR("}") : STR("}]"));
    }
    put_text(o, "}\n");
}

void page_error(struct out *o, int status, struct str message) {
    put_text(o, "{\"error\":{\"message\":");
    put_json(o, message);
    put_format(o, ",\"type\":\"%s\",\"param\":null,\"code\":null}}\n",
               status < 500 ? "invalid_request_error" : "server_error");
}

// ---- about the lab

void page_routes(struct out *o, struct lab *lab) {
    put_text(o, "thaw lab: the same slow call, run in five ways\n\n");
    for (size_t i = 0; pattern_at(i); i++) {
        put_format(o, "  POST %-17s %s\n", pattern_at(i)->path.ptr, pattern_at(i)->about);
    }
    put_text(o, "  GET  /seats            who sits where now\n"
                "  GET  /healthz          alive, with the loop's lag\n\n"
                "with ?user_id=NAME, ?calls=5 for five calls in parallel");
    if (!lab->options.upstream.model) {
        put_text(o, ", ?seconds=2 for the time one takes");
    }
    put_format(
        o, "\ndefault pool: %u threads; executor: %u threads\n\n  curl -X POST 'localhost:8004/to_thread?user_id=1'\n",
        lab->rooms[ROOM_DEFAULT].count, lab->rooms[ROOM_EXECUTOR].count);
}

void page_health(struct out *o, struct lab *lab) {
    put_format(o, "{\"status\":\"ok\",\"lag_ms\":%.3f}\n", (double)loop_lag_ns(lab->loop) / 1e6);
}

static void put_seat(struct out *o, const struct seat *seat, uint64_t now_ns) {
    const struct call *c = seat->sitting;
    char name[SEAT_NAME];
    put_text(o, "{");
    put_name(o, "thread", lab_call_thread(c, name));
    put_text(o, ",");
    put_name(o, "user_id", c->guest->user);
    put_text(o, ",");
    put_name(o, "pattern", c->guest->pattern->name);
    put_format(o, ",\"for_ms\":%.3f,\"waits_for\":", ms(seat->since_ns, MAX(now_ns, seat->since_ns)));
    if (c->state == CALL_HELD) { // has a thread, and nothing to do there yet
        put_json(o, str_c(lab_call_seat(c, name)));
    } else {
        put_text(o, "null");
    }
    put_format(o, ",\"left\":%s}", atomic_load(&c->guest->left) ? "true" : "false");
}

static void put_room(struct out *o, const struct room *room, uint64_t now_ns) {
    bool first = true;
    put_format(o, "\"%s\":{\"seats\":%u,\"taken\":%u,\"waiting\":%u,\"who\":[", room->name, room->count, room->taken,
               room->waiting);
    for (unsigned i = 0; i < room->count; i++) {
        if (room->seats[i].sitting) {
            put(o, first ? STR("") : STR(","));
            put_seat(o, &room->seats[i], now_ns);
            first = false;
        }
    }
    put_text(o, "]},");
}

void page_seats(struct out *o, struct lab *lab) {
    put_text(o, "{");
    for (unsigned i = 0; i < ROOM_COUNT; i++) {
        put_room(o, &lab->rooms[i], lab_now_ns(lab));
    }
    put_format(o, "\"loop\":{\"seats\":null,\"taken\":%u,\"waiting\":0}}\n", lab->in_flight);
}
