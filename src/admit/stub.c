#include "admit/gate.h"
#include "admit/quota.h"
#include "admit/retry.h"
#include "base/mem.h"
struct gates *gates_create(void) {
    return xcalloc(1, 8);
}
void gates_destroy(struct gates *g) { free(g); }
struct gate *gates_find(struct gates *g, struct str n UNUSED) {
    return (struct gate *)(void *)g;
}
void gate_set(struct gate *g UNUSED, const struct gate_options *o UNUSED, uint64_t t UNUSED) {}
struct quotas *quotas_create(void) {
    return xcalloc(1, 8);
}
void quotas_destroy(struct quotas *q) { free(q); }
void retry_budget_init(struct retry_budget *b) { b->credit = 30; }
static struct breaker br;
struct breaker *gate_breaker(struct gate *g UNUSED) {
    return &br;
}
bool breaker_admits(struct breaker *b UNUSED, unsigned f UNUSED, uint64_t n UNUSED, bool *t) {
    *t = false;
    return true;
}
void breaker_failed(struct breaker *b UNUSED, unsigned f UNUSED, uint64_t r UNUSED, uint64_t n UNUSED) {}
void breaker_worked(struct breaker *b UNUSED) {}
void breaker_forget(struct breaker *b UNUSED) {}
uint64_t breaker_rests_ms(const struct breaker *b UNUSED, uint64_t n UNUSED) { return 0; }
enum gate_answer gate_enter(struct gate *gate UNUSED, const struct gate_asker *asker UNUSED,
                            struct ticket **ticket UNUSED, struct gate_refusal *refusal UNUSED) {
    return GATE_IN;
}
void gate_leave(struct ticket *t UNUSED, enum gate_report r UNUSED, uint64_t f UNUSED) {}
bool gate_place(const struct ticket *t UNUSED, unsigned *p UNUSED, unsigned *w UNUSED) { return false; }
enum quota_answer quota_take(struct quotas *q UNUSED, uint64_t c UNUSED, const struct quota_rates *r UNUSED,
                             uint64_t t UNUSED, uint64_t n UNUSED, struct lease *l UNUSED,
                             struct quota_look *k UNUSED) {
    return QUOTA_FINE;
}
void quota_refund(struct lease *l UNUSED, uint64_t n UNUSED) {}
void quota_settle(struct lease *l UNUSED, uint64_t t UNUSED, uint64_t n UNUSED) {}
void retry_budget_call(struct retry_budget *b UNUSED) {}
bool retry_budget_take(struct retry_budget *b UNUSED) { return true; }
bool retry_is_for(int s) { return s == 408 || s == 409 || s == 429 || (s >= 500 && s != 501 && s != 505); }
bool retry_after(const struct fields *f UNUSED, uint64_t n UNUSED, uint64_t *w UNUSED) { return false; }
uint64_t retry_backoff_ms(unsigned n UNUSED, uint32_t r) { return r % 500; }
