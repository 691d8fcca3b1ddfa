// SPDX-License-Identifier: MIT
#include "admit/retry.h"

enum { TENTHS = 10, MS_PER_S = 1000, S_PER_DAY = 24 * 60 * 60 };

void retry_budget_init(struct retry_budget *b) { b->credit = RETRY_CREDIT_FIRST; }

void retry_budget_call(struct retry_budget *b) { b->credit += b->credit < RETRY_CREDIT_MOST; }

bool retry_budget_take(struct retry_budget *b) {
    if (b->credit < TENTHS) {
        return false;
    }
    b->credit -= TENTHS;
    return true;
}

bool retry_is_for(int status) {
    switch (status) {
    case 408:
    case 409:
    case 429: return true;
    case 501: // it will never know how
    case 505: return false;
    default: return status >= 500 && status <= 599;
    }
}

uint64_t retry_backoff_ms(unsigned n, uint32_t random) {
    enum { DOUBLINGS_MOST = 16 };
    unsigned doublings = MIN(n ? n - 1 : 0, (unsigned)DOUBLINGS_MOST);
    uint64_t most = MIN((uint64_t)RETRY_FIRST_MS << doublings, (uint64_t)RETRY_MOST_MS);
    return (most + 1) * random >> 32;
}

// ---- dates: the three forms of RFC 9110 section 5.6.7

static const char *const months[] = {"Jan", "Feb", "Mar", "Apr", "May", "Jun",
                                     "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"};

struct date {
    unsigned year, month, day, hour, minute, second; // month from 1
};

// What stands for itself in a form of a date: D day, N month's name, Y year, y its last two digits, h m s; _ a day with a
// blank instead of its first digit; * any letters (a weekday's name). Anything else is itself.
static const char *const forms[] = {
    "*, D N Y h:m:s GMT",
    "*, D-N-y h:m:s GMT",
    "* N _ h:m:s Y",
};

static bool take_number(struct str *rest, unsigned digits, unsigned *value) {
    if (rest->len < digits) {
        return false;
    }
    *value = 0;
    for (unsigned i = 0; i < digits; i++) {
        char c = rest->ptr[i];
        if (c < '0' || c > '9') {
            return false;
        }
        *value = *value * 10 + (unsigned)(c - '0');
    }
    *rest = str_skip(*rest, digits);
    return true;
}

static bool take_month(struct str *rest, unsigned *month) {
    for (unsigned i = 0; i < ARRAY_LEN(months); i++) {
        if (str_starts(*rest, str_c(months[i]))) {
            *month = i + 1;
            *rest = str_skip(*rest, 3);
            return true;
        }
    }
    return false;
}

static bool take_letters(struct str *rest) {
    size_t n = 0;
    while (n < rest->len && ascii_lower(rest->ptr[n]) >= 'a' && ascii_lower(rest->ptr[n]) <= 'z') {
        n++;
    }
    *rest = str_skip(*rest, n);
    return n;
}

static bool take_part(char part, struct str *rest, struct date *date) {
    switch (part) {
    case '*': return take_letters(rest);
    case 'N': return take_month(rest, &date->month);
    case 'Y': return take_number(rest, 4, &date->year);
    case 'y': return take_number(rest, 2, &date->year);
    case '_':
        if (rest->len && rest->ptr[0] == ' ') {
            *rest = str_skip(*rest, 1);
            return take_number(rest, 1, &date->day);
        }
        return take_number(rest, 2, &date->day);
    case 'D': return take_number(rest, 2, &date->day);
    case 'h': return take_number(rest, 2, &date->hour);
    case 'm': return take_number(rest, 2, &date->minute);
    case 's': return take_number(rest, 2, &date->second);
    default:
        if (!rest->len || rest->ptr[0] != part) {
            return false;
        }
        *rest = str_skip(*rest, 1);
        return true;
    }
}

static bool has_form(struct str text, const char *form, struct date *date) {
    for (; *form; form++) {
        if (!take_part(*form, &text, date)) {
            return false;
        }
    }
    return !text.len && date->day >= 1 && date->day <= 31 && date->hour < 24 && date->minute < 60 && date->second <= 60;
}

// Days since 1970-01-01 of the Gregorian calendar (Hinnant, "chrono-Compatible Low-Level Date Algorithms").
static int64_t days_of(const struct date *d) {
    int64_t year = (int64_t)d->year - (d->month <= 2);
    int64_t era = (year >= 0 ? year : year - 399) / 400;
    int64_t of_era = year - era * 400;
    int64_t of_year = (153 * ((int64_t)d->month + (d->month > 2 ? -3 : 9)) + 2) / 5 + d->day - 1;
    return era * 146097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719468;
}

// The last year with these digits that is not more than 50 years in the future.
static unsigned whole_year(unsigned two_digits, uint64_t now_s) {
    unsigned now = 1970 + (unsigned)(now_s / S_PER_DAY * 400 / 146097);
    return now + 50 - (now + 50 - two_digits) % 100;
}

static bool read_date(struct str text, uint64_t now_s, uint64_t *wait_ms) {
    for (unsigned i = 0; i < ARRAY_LEN(forms); i++) {
        struct date d = {.year = 0};
        if (!has_form(text, forms[i], &d)) {
            continue;
        }
        if (strchr(forms[i], 'y')) {
            d.year = whole_year(d.year, now_s);
        }
        int64_t at = days_of(&d) * S_PER_DAY + d.hour * 3600 + d.minute * 60 + d.second;
        *wait_ms = at > (int64_t)now_s ? ((uint64_t)at - now_s) * MS_PER_S : 0;
        return true;
    }
    return false;
}

// ---- what the upstream asks for

// A number with or without a fraction, as clients and servers write it though RFC 9110 has whole seconds only. What is
// beyond a million milliseconds or seconds nobody waits for.
static bool read_number(struct str text, uint64_t unit, uint64_t *wait_ms) {
    struct str whole = text;
    struct str fraction = str_skip(text, str_find(text, '.'));
    whole.len -= fraction.len;
    uint64_t n;
    if (parse_u64(whole, &n)) {
        return false;
    }
    *wait_ms = MIN(n, 1000000u * (MS_PER_S / unit)) * unit;
    if (fraction.len) {
        uint64_t part;
        fraction = str_skip(fraction, 1);
        if (!fraction.len || parse_u64(fraction, &part)) {
            return false;
        }
        for (uint64_t place = unit / 10, i = 0; place && i < fraction.len; place /= 10, i++) {
            *wait_ms += (uint64_t)(fraction.ptr[i] - '0') * place;
        }
    }
    return true;
}

bool retry_after(const struct fields *fields, uint64_t now_s, uint64_t *wait_ms) {
    struct str ms = str_trim(fields_value(fields, FIELD_RETRY_AFTER_MS));
    if (ms.len && read_number(ms, 1, wait_ms)) {
        return true;
    }
    struct str s = str_trim(fields_value(fields, FIELD_RETRY_AFTER));
    return s.len && (read_number(s, MS_PER_S, wait_ms) || read_date(s, now_s, wait_ms));
}
