// SPDX-License-Identifier: MIT
// ELF as in elf(5). The file is the program that runs, not something foreign; its bounds are looked at nevertheless, for
// it may have been cut or written over since.
#include "cmd/symbols.h"

#include <elf.h>
#include <fcntl.h>
#include <limits.h>
#include <link.h>
#include <stdbool.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

struct image {
    const char *bytes;
    size_t size;
};

static bool holds(const struct image *i, uint64_t offset, uint64_t size) {
    return offset <= i->size && size <= i->size - offset;
}

static bool open_image(struct image *i) {
    struct stat s;
    int fd = open("/proc/self/exe", O_RDONLY | O_CLOEXEC);
    void *bytes = MAP_FAILED;
    if (fd >= 0 && fstat(fd, &s) == 0 && s.st_size > 0) {
        bytes = mmap(NULL, (size_t)s.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
        *i = (struct image){bytes, (size_t)s.st_size};
    }
    if (fd >= 0) {
        close(fd);
    }
    return bytes != MAP_FAILED;
}

// The section of that type; NULL: there is none, as in a stripped program.
static const ElfW(Shdr) * section_of(const struct image *i, const ElfW(Ehdr) * head, unsigned type) {
    const ElfW(Shdr) *sections = (const void *)(i->bytes + head->e_shoff);
    if (!holds(i, head->e_shoff, (uint64_t)head->e_shnum * sizeof *sections)) {
        return NULL;
    }
    for (unsigned n = 0; n < head->e_shnum; n++) {
        const ElfW(Shdr) *s = &sections[n];
        bool whole = holds(i, s->sh_offset, s->sh_size) && s->sh_link < head->e_shnum;
        if (s->sh_type == type && whole) {
            const ElfW(Shdr) *names = &sections[s->sh_link];
            return holds(i, names->sh_offset, names->sh_size) ? s : NULL;
        }
    }
    return NULL;
}

static bool find_name(const struct image *i, uintptr_t address, char *out, size_t size) {
    const ElfW(Ehdr) *head = (const void *)i->bytes;
    const ElfW(Shdr) *table = i->size < sizeof *head ? NULL : section_of(i, head, SHT_SYMTAB);
    if (!table) {
        return false;
    }
    const ElfW(Shdr) *names = (const ElfW(Shdr) *)(const void *)(i->bytes + head->e_shoff) + table->sh_link;
    const ElfW(Sym) *symbols = (const void *)(i->bytes + table->sh_offset);
    for (size_t n = 0; n < table->sh_size / sizeof *symbols; n++) {
        const ElfW(Sym) *s = &symbols[n];
        bool function = ELF64_ST_TYPE(s->st_info) == STT_FUNC; // the same bits for 32
        if (function && address >= s->st_value && address < s->st_value + MAX(s->st_size, 1u) &&
            s->st_name < names->sh_size) {
            const char *name = i->bytes + names->sh_offset + s->st_name;
            snprintf(out, size, "%.*s", (int)MIN(strnlen(name, names->sh_size - s->st_name), (size_t)INT_MAX), name);
            return true;
        }
    }
    return false;
}

// Where the program was loaded; the first object is the program itself.
static int take_base(struct dl_phdr_info *info, size_t size UNUSED, void *base) {
    *(uintptr_t *)base = info->dlpi_addr;
    return 1;
}

void symbol_name(activity_callback *function, char *out, size_t size) {
    struct image image;
    uintptr_t base = 0;
    char path[PATH_MAX];
    (void)dl_iterate_phdr(take_base, &base);
    uintptr_t address = (uintptr_t)function - base;
    if (open_image(&image)) {
        bool found = find_name(&image, address, out, size);
        munmap((void *)(uintptr_t)image.bytes, image.size);
        if (found) {
            return;
        }
    }
    ssize_t n = readlink("/proc/self/exe", path, sizeof path - 1);
    snprintf(out, size, "0x%llx of %.*s", (unsigned long long)address, (int)MAX(n, 0), path);
}
