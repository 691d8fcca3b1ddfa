// SPDX-License-Identifier: MIT
// Machines made of files: what a process reads of its limits under each kind of container.
#include "cmd/machine.h"

#include <errno.h>
#include <ftw.h>
#include <limits.h>
#include <sched.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "check.h"

#define MIB (1024ull * 1024)
#define MEMINFO                                                                                                        \
    { "/proc/meminfo", "MemTotal:        8388608 kB\nMemFree:  12 kB\n" }
#define MACHINE (8192 * MIB)
#define UNLIMITED_V1 "9223372036854771712\n"

struct file {
    const char *path;
    const char *text;
};

static const struct machine_case {
    const char *name;
    struct file files[12];
    double cpu_quota;
    unsigned cpus; // usable where the affinity allows as many; 0: all that it allows
    uint64_t memory;
    bool memory_from_cgroup;
} cases[] = {
    {"no cgroups", {MEMINFO}, 0, 0, MACHINE, false},
    {"nothing to read at all", {{"/etc/empty", ""}}, 0, 0, 0, false},
    {"v2, no limits",
     {MEMINFO,
      {"/proc/self/cgroup", "0::/\n"},
      {"/sys/fs/cgroup/cpu.max", "max 100000\n"},
      {"/sys/fs/cgroup/memory.max", "max\n"}},
     0,
     0,
     MACHINE,
     false},
    {"v2, at the namespace's root",
     {MEMINFO,
      {"/proc/self/cgroup", "0::/\n"},
      {"/sys/fs/cgroup/cpu.max", "200000 100000\n"},
      {"/sys/fs/cgroup/memory.max", "536870912\n"}},
     2,
     2,
     512 * MIB,
     true},
    {"v2, a fraction is rounded up",
     {MEMINFO, {"/proc/self/cgroup", "0::/\n"}, {"/sys/fs/cgroup/cpu.max", "150000 100000\n"}},
     1.5,
     2,
     MACHINE,
     false},
    {"v2, less than one CPU is one",
     {MEMINFO, {"/proc/self/cgroup", "0::/\n"}, {"/sys/fs/cgroup/cpu.max", "5000 100000\n"}},
     0.05,
     1,
     MACHINE,
     false},
    {"v2, no line end",
     {MEMINFO,
      {"/proc/self/cgroup", "0::/"},
      {"/sys/fs/cgroup/cpu.max", "100000 50000"},
      {"/sys/fs/cgroup/memory.max", "1048576"}},
     2,
     2,
     MIB,
     true},
    {"v2, nested: the smallest of all above counts",
     {MEMINFO,
      {"/proc/self/cgroup", "0::/a.slice/b.service/c\n"},
      {"/sys/fs/cgroup/a.slice/cpu.max", "100000 100000\n"},
      {"/sys/fs/cgroup/a.slice/memory.max", "1073741824\n"},
      {"/sys/fs/cgroup/a.slice/b.service/cpu.max", "max 100000\n"},
      {"/sys/fs/cgroup/a.slice/b.service/memory.max", "268435456\n"},
      {"/sys/fs/cgroup/a.slice/b.service/c/cpu.max", "400000 100000\n"},
      {"/sys/fs/cgroup/a.slice/b.service/c/memory.max", "max\n"}},
     1,
     1,
     256 * MIB,
     true},
    {"v2, a sibling's limits are not ours",
     {MEMINFO,
      {"/proc/self/cgroup", "0::/ours\n"},
      {"/sys/fs/cgroup/our/cpu.max", "100000 100000\n"},
      {"/sys/fs/cgroup/ours2/memory.max", "1\n"}},
     0,
     0,
     MACHINE,
     false},
    {"v2, the host's path with the container's mount",
     {MEMINFO,
      {"/proc/self/cgroup", "0::/system.slice/docker-12ab.scope\n"},
      {"/sys/fs/cgroup/cpu.max", "300000 100000\n"},
      {"/sys/fs/cgroup/memory.max", "2147483648\n"}},
     3,
     3,
     2048 * MIB,
     true},
    {"v2, outside of the namespace",
     {MEMINFO,
      {"/proc/self/cgroup", "0::/../../other\n"},
      {"/sys/fs/cgroup/cpu.max", "300000 100000\n"},
      {"/other/cpu.max", "100000 100000\n"},
      {"/sys/other/cpu.max", "100000 100000\n"}},
     3,
     3,
     MACHINE,
     false},
    {"v2, more than the machine has is no limit of the cgroup's",
     {MEMINFO, {"/proc/self/cgroup", "0::/\n"}, {"/sys/fs/cgroup/memory.max", "17179869184\n"}},
     0,
     0,
     MACHINE,
     false},
    {"v2, what is no number is no limit",
     {MEMINFO,
      {"/proc/self/cgroup", "0::/\n"},
      {"/sys/fs/cgroup/cpu.max", "-1 0\n"},
      {"/sys/fs/cgroup/memory.max", "lots\n"}},
     0,
     0,
     MACHINE,
     false},
    {"v2, a period of nothing",
     {MEMINFO,
      {"/proc/self/cgroup", "0::/\n"},
      {"/sys/fs/cgroup/cpu.max", "100000 0\n"},
      {"/sys/fs/cgroup/memory.max", ""}},
     0,
     0,
     MACHINE,
     false},
    {"v1, no limits",
     {MEMINFO,
      {"/proc/self/cgroup", "4:memory:/\n3:cpu,cpuacct:/\n1:name=systemd:/\n"},
      {"/sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us", "-1\n"},
      {"/sys/fs/cgroup/cpu,cpuacct/cpu.cfs_period_us", "100000\n"},
      {"/sys/fs/cgroup/memory/memory.limit_in_bytes", UNLIMITED_V1}},
     0,
     0,
     MACHINE,
     false},
    {"v1, unlimited where the machine's memory is not known",
     {{"/proc/self/cgroup", "4:memory:/\n"}, {"/sys/fs/cgroup/memory/memory.limit_in_bytes", UNLIMITED_V1}},
     0,
     0,
     0,
     false},
    {"v1, nested",
     {MEMINFO,
      {"/proc/self/cgroup", "11:memory:/docker/12ab\n4:cpu,cpuacct:/docker/12ab\n2:cpuset:/docker/12ab\n"},
      {"/sys/fs/cgroup/cpu/docker/12ab/cpu.cfs_quota_us", "250000\n"},
      {"/sys/fs/cgroup/cpu/docker/12ab/cpu.cfs_period_us", "100000\n"},
      {"/sys/fs/cgroup/cpu/cpu.cfs_quota_us", "-1\n"},
      {"/sys/fs/cgroup/cpu/cpu.cfs_period_us", "100000\n"},
      {"/sys/fs/cgroup/memory/docker/12ab/memory.limit_in_bytes", UNLIMITED_V1},
      {"/sys/fs/cgroup/memory/docker/memory.limit_in_bytes", "4294967296\n"},
      {"/sys/fs/cgroup/memory/memory.limit_in_bytes", UNLIMITED_V1}},
     2.5,
     3,
     4096 * MIB,
     true},
    {"v1, the host's path with the container's mount",
     {MEMINFO,
      {"/proc/self/cgroup", "11:memory:/docker/12ab\n4:cpuacct,cpu:/docker/12ab\n"},
      {"/sys/fs/cgroup/cpuacct,cpu/cpu.cfs_quota_us", "100000\n"},
      {"/sys/fs/cgroup/cpuacct,cpu/cpu.cfs_period_us", "100000\n"},
      {"/sys/fs/cgroup/memory/memory.limit_in_bytes", "134217728\n"}},
     1,
     1,
     128 * MIB,
     true},
    {"v1, cpuset is another controller than cpu",
     {MEMINFO,
      {"/proc/self/cgroup", "2:cpuset:/x\n4:cpu:/y\n"},
      {"/sys/fs/cgroup/cpu/x/cpu.cfs_quota_us", "100000\n"},
      {"/sys/fs/cgroup/cpu/x/cpu.cfs_period_us", "100000\n"}},
     0,
     0,
     MACHINE,
     false},
    {"v1 with v2 at unified",
     {MEMINFO,
      {"/proc/self/cgroup", "4:memory:/m\n3:cpu,cpuacct:/c\n0::/u\n"},
      {"/sys/fs/cgroup/cpu,cpuacct/c/cpu.cfs_quota_us", "400000\n"},
      {"/sys/fs/cgroup/cpu,cpuacct/c/cpu.cfs_period_us", "100000\n"},
      {"/sys/fs/cgroup/unified/u/cpu.max", "200000 100000\n"},
      {"/sys/fs/cgroup/memory/m/memory.limit_in_bytes", "1048576\n"}},
     2,
     2,
     MIB,
     true},
    {"a path with colons and blanks",
     {MEMINFO, {"/proc/self/cgroup", "0::/a:b/c d\n"}, {"/sys/fs/cgroup/a:b/c d/memory.max", "1048576\n"}},
     0,
     0,
     MIB,
     true},
    {"no word of where we are",
     {MEMINFO, {"/sys/fs/cgroup/cpu.max", "200000 100000\n"}, {"/sys/fs/cgroup/memory.max", "1048576\n"}},
     2,
     2,
     MIB,
     true},
    {"lines that mean nothing",
     {MEMINFO,
      {"/proc/self/cgroup", "\n:\n::\n0:\n7:cpu\nnonsense\n0::relative\n"},
      {"/sys/fs/cgroup/cpu.max", "200000 100000\n"}},
     2,
     2,
     MACHINE,
     false},
};

static void make_directories(char *path) {
    for (char *slash = strchr(path + 1, '/'); slash; slash = strchr(slash + 1, '/')) {
        *slash = '\0';
        check(mkdir(path, 0700) == 0 || errno == EEXIST);
        *slash = '/';
    }
}

static void write_file(const char *root, const struct file *file) {
    char path[PATH_MAX];
    snprintf(path, sizeof path, "%s%s", root, file->path);
    make_directories(path);
    FILE *f = fopen(path, "w");
    check(f != NULL);
    check(fputs(file->text, f) >= 0);
    check_int(fclose(f), 0);
}

static int remove_one(const char *path, const struct stat *stat UNUSED, int type UNUSED, struct FTW *ftw UNUSED) {
    return remove(path);
}

// The group that has the limit is told, with its generation: there its use can be read.
static void check_group(const struct machine_case *c, const struct machine *m, const char *root) {
    char name[sizeof m->memory_group + 32];
    snprintf(name, sizeof name, "%s/%s", m->memory_group, m->memory_group_v1 ? "memory.limit_in_bytes" : "memory.max");
    bool told = false;
    for (size_t i = 0; i < ARRAY_LEN(c->files) && c->files[i].path; i++) {
        char path[PATH_MAX];
        snprintf(path, sizeof path, "%s%s", root, c->files[i].path);
        told = told || (strcmp(path, name) == 0 && strtoull(c->files[i].text, NULL, 10) == m->memory_bytes);
    }
    check(told == c->memory_from_cgroup);
    check((m->memory_group[0] != '\0') == c->memory_from_cgroup);
}

static void check_case(const struct machine_case *c) {
    const char *temporary = getenv("TMPDIR");
    char root[PATH_MAX];
    struct machine m;
    snprintf(root, sizeof root, "%s/thaw-machine-XXXXXX", temporary ? temporary : "/tmp");
    check(mkdtemp(root) != NULL);
    for (size_t i = 0; i < ARRAY_LEN(c->files) && c->files[i].path; i++) {
        write_file(root, &c->files[i]);
    }
    machine_read(&m, root, false);
    check_int(nftw(root, remove_one, 8, FTW_DEPTH | FTW_PHYS), 0);
    unsigned cpus = c->cpus ? MIN(c->cpus, m.cpus_allowed) : m.cpus_allowed;
    if (m.cpu_quota < c->cpu_quota - 1e-9 || m.cpu_quota > c->cpu_quota + 1e-9 || m.cpus_usable != cpus ||
        m.memory_bytes != c->memory || m.memory_from_cgroup != c->memory_from_cgroup) {
        fail_msg("%s: quota %g, %u CPUs, %llu bytes (%s)", c->name, m.cpu_quota, m.cpus_usable,
                 (unsigned long long)m.memory_bytes, m.memory_from_cgroup ? "cgroup" : "machine");
    }
    check_group(c, &m, root);
}

static void the_smallest_limit_counts(void **state UNUSED) {
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        check_case(&cases[i]);
    }
}

static void affinity_is_what_the_scheduler_says(void **state UNUSED) {
    cpu_set_t before;
    cpu_set_t one;
    struct machine m;
    check_int(sched_getaffinity(0, sizeof before, &before), 0);
    machine_read(&m, "/nonexistent", false);
    check_int(m.cpus_allowed, CPU_COUNT(&before));
    CPU_ZERO(&one);
    for (size_t cpu = 0; CPU_COUNT(&one) == 0; cpu++) {
        if (CPU_ISSET(cpu, &before)) {
            CPU_SET(cpu, &one);
        }
    }
    check_int(sched_setaffinity(0, sizeof one, &one), 0);
    machine_read(&m, "/nonexistent", false);
    check_int(m.cpus_allowed, 1);
    check_int(m.cpus_usable, 1);
    check_int(sched_setaffinity(0, sizeof before, &before), 0);
}

static void descriptors_are_raised_only_when_asked_for(void **state UNUSED) {
    struct rlimit limit;
    struct machine m;
    check_int(getrlimit(RLIMIT_NOFILE, &limit), 0);
    limit.rlim_cur = 64;
    check_int(setrlimit(RLIMIT_NOFILE, &limit), 0);
    machine_read(&m, "", false);
    check_int(m.files, 64);
    machine_read(&m, "", true);
    check_int(m.files, limit.rlim_max);
    check_int(getrlimit(RLIMIT_NOFILE, &limit), 0);
    check_int(limit.rlim_cur, limit.rlim_max);
}

static void this_machine_has_a_cpu_and_memory(void **state UNUSED) {
    struct machine m;
    machine_read(&m, "", false);
    check(m.cpus_usable >= 1 && m.cpus_usable <= m.cpus_allowed);
    check(m.memory_bytes > MIB);
    check(m.files > 0);
}

TESTS(TEST(the_smallest_limit_counts), TEST(affinity_is_what_the_scheduler_says),
      TEST(descriptors_are_raised_only_when_asked_for), TEST(this_machine_has_a_cpu_and_memory))
