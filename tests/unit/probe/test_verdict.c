// SPDX-License-Identifier: MIT
#include "check.h"
#include "probe/verdict.h"

static void models_have_the_names_of_the_report(void **state UNUSED) {
    check_str(str_c(probe_model_name(PROBE_FLAT)), "flat");
    check_str(str_c(probe_model_name(PROBE_PARTIAL_LOCK)), "partial_lock");
    check_str(str_c(probe_model_name(PROBE_INCONCLUSIVE)), "inconclusive");
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(models_have_the_names_of_the_report)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
