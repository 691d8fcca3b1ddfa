// SPDX-License-Identifier: MIT
// /proc/self/cgroup says in which group of each hierarchy we are; a limit of any group above holds as well. In a
// container the group's path may be that of the host, while what is mounted begins with the container's own group:
// directories that are not there are skipped, the mount's root is always looked at.
//
// Two generations: v2 has one hierarchy (cpu.max, memory.max), v1 one for each controller (cpu.cfs_quota_us,
// memory.limit_in_bytes); systems in between mount v2 at "unified". Whatever is found counts, the smallest wins.
#include "cmd/machine.h"

#include <errno.h>
#include <sched.h>
#include <sys/resource.h>

enum {
    LINE_SIZE = 4096,
    CPUS_MAX = 1 << 20, // where looking for the size of the affinity mask ends
};

struct limits {
    double cpu_quota;      // 0: none
    uint64_t memory_bytes; // UINT64_MAX: none
    bool memory_v1;
    char memory_group[PATH_MAX]; // whose limit that is
};

// ---- files

// The first line of a file without its end; false if there is none.
static bool read_line(const char *path, char line[LINE_SIZE]) {
    FILE *f = fopen(path, "re");
    bool fine = f && fgets(line, LINE_SIZE, f);
    if (f) {
        fclose(f);
    }
    if (fine) {
        line[strcspn(line, "\n")] = '\0';
    }
    return fine;
}

static bool read_file_of(const char *directory, const char *name, char line[LINE_SIZE]) {
    char path[PATH_MAX];
    int n = snprintf(path, sizeof path, "%s/%s", directory, name);
    return n > 0 && (size_t)n < sizeof path && read_line(path, line);
}

static bool read_number(const char *directory, const char *name, uint64_t *value) {
    char line[LINE_SIZE];
    return read_file_of(directory, name, line) && parse_u64(str_trim(str_c(line)), value) == OK;
}

// ---- limits of one group

static void limit_cpu(struct limits *l, uint64_t quota_us, uint64_t period_us) {
    double cpus = period_us ? (double)quota_us / (double)period_us : 0;
    if (cpus > 0 && (l->cpu_quota <= 0 || cpus < l->cpu_quota)) {
        l->cpu_quota = cpus;
    }
}

static void limit_memory(struct limits *l, uint64_t bytes, const char *group, bool v1) {
    if (bytes < l->memory_bytes) {
        l->memory_bytes = bytes;
        l->memory_v1 = v1;
        snprintf(l->memory_group, sizeof l->memory_group, "%s", group);
    }
}

// "max 100000" is no number, and so no limit.
static void read_v2(struct limits *l, const char *directory) {
    char line[LINE_SIZE];
    uint64_t quota = 0;
    uint64_t period = 0;
    uint64_t bytes = 0;
    if (read_file_of(directory, "cpu.max", line)) {
        struct str rest = str_c(line);
        struct str first = {NULL, 0};
        if (str_split(&rest, ' ', &first) && parse_u64(first, &quota) == OK &&
            parse_u64(str_trim(rest), &period) == OK) {
            limit_cpu(l, quota, period);
        }
    }
    if (read_number(directory, "memory.max", &bytes)) {
        limit_memory(l, bytes, directory, false);
    }
}

// A quota of -1 is no number, and so no limit.
static void read_v1_cpu(struct limits *l, const char *directory) {
    uint64_t quota = 0;
    uint64_t period = 0;
    if (read_number(directory, "cpu.cfs_quota_us", &quota) && read_number(directory, "cpu.cfs_period_us", &period)) {
        limit_cpu(l, quota, period);
    }
}

// No limit is told as a number larger than any machine.
static void read_v1_memory(struct limits *l, const char *directory) {
    uint64_t bytes = 0;
    if (read_number(directory, "memory.limit_in_bytes", &bytes)) {
        limit_memory(l, bytes, directory, true);
    }
}

// ---- groups

static const struct mount {
    const char *controller; // as /proc/self/cgroup names it; "" is v2
    const char *path;
    void (*read)(struct limits *l, const char *directory);
} mounts[] = {
    {"", "/sys/fs/cgroup", read_v2},
    {"", "/sys/fs/cgroup/unified", read_v2},
    {"cpu", "/sys/fs/cgroup/cpu", read_v1_cpu},
    {"cpu", "/sys/fs/cgroup/cpu,cpuacct", read_v1_cpu},
    {"cpu", "/sys/fs/cgroup/cpuacct,cpu", read_v1_cpu},
    {"memory", "/sys/fs/cgroup/memory", read_v1_memory},
};

// The group's limits and those of all above, up to the mount's root.
static void read_group(struct limits *l, const char *root, const struct mount *mount, struct str group) {
    char directory[PATH_MAX];
    if (str_search(group, STR("/..")) < group.len) {
        group = STR("/"); // outside of what this namespace sees
    }
    for (;;) {
        while (str_ends(group, STR("/"))) {
            group.len--;
        }
        int n = snprintf(directory, sizeof directory, "%s%s%.*s", root, mount->path, STR_ARG(group));
        if (n > 0 && (size_t)n < sizeof directory) {
            mount->read(l, directory);
        }
        if (group.len == 0) {
            return;
        }
        while (group.len && group.ptr[group.len - 1] != '/') {
            group.len--;
        }
    }
}

static bool list_has(struct str list, struct str wanted) {
    struct str part;
    if (wanted.len == 0) {
        return list.len == 0;
    }
    while (str_split(&list, ',', &part)) {
        if (str_eq(part, wanted)) {
            return true;
        }
    }
    return false;
}

// One line of /proc/self/cgroup: "0::/user.slice" or "4:cpu,cpuacct:/docker/12ab".
static void read_membership(struct limits *l, const char *root, struct str line) {
    size_t colon = str_find(line, ':');
    struct str rest = str_skip(line, colon + 1);
    struct str controllers = str_first(rest, str_find(rest, ':'));
    struct str group = str_skip(rest, controllers.len + 1);
    for (size_t i = 0; i < ARRAY_LEN(mounts) && rest.len > controllers.len; i++) {
        if (list_has(controllers, str_c(mounts[i].controller))) {
            read_group(l, root, &mounts[i], group);
        }
    }
}

static struct limits read_limits(const char *root) {
    struct limits l = {.cpu_quota = 0, .memory_bytes = UINT64_MAX};
    char path[PATH_MAX];
    char line[LINE_SIZE];
    snprintf(path, sizeof path, "%s/proc/self/cgroup", root);
    FILE *f = fopen(path, "re");
    for (size_t i = 0; !f && i < ARRAY_LEN(mounts); i++) {
        read_group(&l, root, &mounts[i], STR("/")); // not told where we are: what is mounted may be ours
    }
    while (f && fgets(line, sizeof line, f)) {
        line[strcspn(line, "\n")] = '\0';
        read_membership(&l, root, str_c(line));
    }
    if (f) {
        fclose(f);
    }
    return l;
}

// ---- the machine

static uint64_t read_machine_memory(const char *root) {
    char path[PATH_MAX];
    char line[LINE_SIZE];
    uint64_t kib = 0;
    snprintf(path, sizeof path, "%s/proc/meminfo", root);
    FILE *f = fopen(path, "re");
    while (f && kib == 0 && fgets(line, sizeof line, f)) {
        struct str s = str_c(line);
        struct str name = STR("MemTotal:");
        if (str_starts(s, name)) {
            s = str_trim(str_skip(s, name.len));
            kib = parse_u64(str_first(s, str_find(s, ' ')), &kib) == OK ? kib : 0;
        }
    }
    if (f) {
        fclose(f);
    }
    return kib > UINT64_MAX / 1024 ? 0 : kib * 1024;
}

// The mask has to have room for every CPU the kernel was built for: EINVAL until it has.
static unsigned count_allowed(void) {
    for (int cpus = 1024; cpus <= CPUS_MAX; cpus *= 2) {
        cpu_set_t *set = CPU_ALLOC((size_t)cpus);
        size_t size = CPU_ALLOC_SIZE((size_t)cpus);
        if (!set) {
            return 1;
        }
        bool fine = sched_getaffinity(0, size, set) == 0;
        bool again = !fine && errno == EINVAL;
        int n = fine ? CPU_COUNT_S(size, set) : 1;
        CPU_FREE(set);
        if (!again) {
            return n > 0 ? (unsigned)n : 1;
        }
    }
    return 1;
}

static unsigned usable(double quota, unsigned allowed) {
    if (quota <= 0 || quota >= (double)allowed) {
        return allowed;
    }
    unsigned whole = (unsigned)quota;
    whole += (double)whole < quota;
    return whole;
}

static uint64_t read_files(const char *root, bool raise) {
    struct rlimit limit;
    char directory[PATH_MAX];
    uint64_t most = 0;
    if (getrlimit(RLIMIT_NOFILE, &limit) != 0) {
        return 1024; // what POSIX systems have always given
    }
    if (raise && limit.rlim_cur < limit.rlim_max) {
        struct rlimit raised = {limit.rlim_max, limit.rlim_max};
        limit = setrlimit(RLIMIT_NOFILE, &raised) == 0 ? raised : limit;
    }
    if (limit.rlim_cur != RLIM_INFINITY) {
        return limit.rlim_cur;
    }
    snprintf(directory, sizeof directory, "%s/proc/sys/fs", root);
    return read_number(directory, "nr_open", &most) ? most : 1024 * 1024;
}

void machine_read(struct machine *m, const char *root, bool raise_files) {
    struct limits limits = read_limits(root);
    uint64_t memory = read_machine_memory(root);
    *m = (struct machine){
        .cpu_quota = limits.cpu_quota,
        .cpus_allowed = count_allowed(),
        .memory_bytes = memory,
        .files = read_files(root, raise_files),
    };
    m->cpus_usable = usable(m->cpu_quota, m->cpus_allowed);
    // A limit that no machine can reach is none, also where the machine's own memory is not known.
    uint64_t reachable = memory ? memory : (uint64_t)1 << 60;
    if (limits.memory_bytes < reachable) {
        m->memory_bytes = limits.memory_bytes;
        m->memory_from_cgroup = true;
        m->memory_group_v1 = limits.memory_v1;
        memcpy(m->memory_group, limits.memory_group, sizeof m->memory_group);
    }
}
