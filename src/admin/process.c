// SPDX-License-Identifier: MIT
// What Prometheus clients tell of their process, by the names that dashboards know.
#include <dirent.h>
#include <fcntl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "admin/look.h"

enum { FILE_MAX = 4096, AT_USER_TICKS = 11, AT_SYSTEM_TICKS, AT_THREADS = 17, AT_START = 19, AT_VIRTUAL, AT_PAGES };

static struct str read_file(const char *path, char room[FILE_MAX]) {
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t n = fd >= 0 ? read(fd, room, FILE_MAX) : 0;
    if (fd >= 0) {
        close(fd);
    }
    return str_from(room, n > 0 ? (size_t)n : 0);
}

// proc_pid_stat(5): behind the name, which is in parentheses and may have any bytes in it, numbers.
static void read_stat(struct process *p, double ticks, double boot_s) {
    char room[FILE_MAX];
    struct str rest = read_file("/proc/self/stat", room);
    struct str part;
    const char *name_end = rest.len ? memrchr(rest.ptr, ')', rest.len) : NULL;
    rest = name_end ? str_skip(rest, (size_t)(name_end - rest.ptr) + 2) : STR("");
    for (unsigned i = 0; str_split(&rest, ' ', &part); i++) {
        uint64_t n = 0;
        if (parse_u64(part, &n) != OK) {
            continue;
        }
        switch (i) {
        case AT_USER_TICKS:
        case AT_SYSTEM_TICKS: p->cpu_s += (double)n / ticks; break;
        case AT_THREADS: p->threads = n; break;
        case AT_START: p->started_s = boot_s + (double)n / ticks; break;
        case AT_VIRTUAL: p->virtual_size = n; break;
        case AT_PAGES: p->resident = n * (uint64_t)sysconf(_SC_PAGESIZE); break;
        default: break;
        }
    }
}

static double boot_time_s(void) {
    char room[FILE_MAX * 4];
    int fd = open("/proc/stat", O_RDONLY | O_CLOEXEC);
    ssize_t n = fd >= 0 ? read(fd, room, sizeof room) : 0;
    struct str text = str_from(room, n > 0 ? (size_t)n : 0);
    struct str line;
    uint64_t s = 0;
    if (fd >= 0) {
        close(fd);
    }
    while (str_split(&text, '\n', &line)) {
        if (str_starts(line, STR("btime ")) && parse_u64(str_skip(line, 6), &s) == OK) {
            break;
        }
    }
    return (double)s;
}

// Since Linux 6.2 the folder's size is the number of its entries; before that they are counted.
static uint64_t count_files(void) {
    struct stat stat_of;
    uint64_t n = 0;
    if (stat("/proc/self/fd", &stat_of) == 0 && stat_of.st_size > 0) {
        return (uint64_t)stat_of.st_size;
    }
    DIR *dir = opendir("/proc/self/fd");
    while (dir && readdir(dir)) {
        n++;
    }
    if (dir) {
        closedir(dir);
    }
    return n > 3 ? n - 3 : 0; // ".", ".." and the folder itself
}

void process_read(struct process *p) {
    struct rlimit files = {0};
    *p = (struct process){0};
    read_stat(p, (double)sysconf(_SC_CLK_TCK), boot_time_s());
    p->open_files = count_files();
    if (getrlimit(RLIMIT_NOFILE, &files) == 0) {
        p->max_files = files.rlim_cur;
    }
}
