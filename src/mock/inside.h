// SPDX-License-Identifier: MIT
// What those who look at a mock from inside its folder may see.
#pragma once
#include "mock/journal.h"
#include "mock/mock.h"

const struct journal *mock_journal(const struct mock *mock);
uint64_t mock_now_ns(const struct mock *mock);
// The records of the calls in flight that the journal still has, in the order of arrival, until `see` returns false.
void mock_each_call(const struct mock *mock, bool (*see)(void *context, const struct journal_record *r), void *context);
