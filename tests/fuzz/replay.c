// SPDX-License-Identifier: MIT
// Feeds files to a fuzz target: `replay-fuzz_sse FILE-OR-FOLDER...`. The corpus as an ordinary test, and the
// way to look at a finding with a debugger. A folder without files is a failure: nothing would have been
// tested.
#include "fuzz.h"

#include <dirent.h>
#include <sys/stat.h>

#include "base/mem.h"

static bool replay_file(const char *path) {
    FILE *f = fopen(path, "rb");
    struct stat info;
    if (!f || fstat(fileno(f), &info) != 0) {
        perror(path);
        return false;
    }
    size_t size = (size_t)info.st_size;
    uint8_t *bytes = xmalloc(size); // of the exact size: a read past it is seen
    bool whole = fread(bytes, 1, size, f) == size;
    fclose(f);
    if (whole) {
        printf("%s: %zu bytes\n", path, size);
        fflush(stdout); // the last line names the one that failed
        (void)LLVMFuzzerTestOneInput(bytes, size);
    }
    free(bytes);
    return whole;
}

static unsigned replay_folder(const char *path, DIR *folder) {
    unsigned n = 0;
    for (struct dirent *entry; (entry = readdir(folder));) {
        char name[4096];
        struct stat info;
        (void)snprintf(name, sizeof name, "%s/%s", path, entry->d_name);
        if (stat(name, &info) == 0 && S_ISREG(info.st_mode)) {
            n += replay_file(name) ? 1 : 0;
        }
    }
    return n;
}

int main(int argc, char **argv) {
    unsigned n = 0;
    for (int i = 1; i < argc; i++) {
        DIR *folder = opendir(argv[i]);
        unsigned here = 0;
        if (folder) {
            here = replay_folder(argv[i], folder);
            closedir(folder);
        } else if (replay_file(argv[i])) {
            here = 1;
        }
        if (here == 0) {
            fprintf(stderr, "%s: nothing to replay\n", argv[i]);
            return 1;
        }
        n += here;
    }
    printf("%u inputs\n", n);
    return n == 0;
}
