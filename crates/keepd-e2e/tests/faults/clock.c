/*
 * Preloaded into every process of a test: shows them a wall clock that the test sets.
 *
 * Nobody may set the clock of the machine for a test, and time namespaces have none of their own.
 * Most programs read it without a system call, by a function of the kernel's that is mapped into
 * them (vdso(7)). It is overwritten here with a jump, so that it does not matter by which library a
 * program reads the clock. The monotonic clocks are the real ones.
 *
 * The file named by KEEPD_TEST_CLOCK holds the difference in nanoseconds, eight bytes.
 */
#define _GNU_SOURCE
#include <elf.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#define NS 1000000000L

static const volatile int64_t *difference;

static int shown_clock(clockid_t clock, struct timespec *time)
{
    if (syscall(SYS_clock_gettime, clock, time) != 0)
        return -1;
    if (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE) {
        int64_t all = time->tv_sec * NS + time->tv_nsec + *difference;
        time->tv_sec = all / NS;
        time->tv_nsec = all % NS;
    }
    return 0;
}

/* Writes `movabs $target, %rax; jmp *%rax` over a function of the vDSO, in this process alone. */
static void replace(unsigned char *function, int (*target)(clockid_t, struct timespec *))
{
    unsigned char jump[] = {0x48, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xe0};
    uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE);
    uintptr_t begin = (uintptr_t)function & ~(page - 1);
    memcpy(jump + 2, &target, sizeof(target));
    if (mprotect((void *)begin, 2 * page, PROT_READ | PROT_WRITE | PROT_EXEC) != 0 &&
        mprotect((void *)begin, page, PROT_READ | PROT_WRITE | PROT_EXEC) != 0)
        return;
    memcpy(function, jump, sizeof(jump));
}

__attribute__((constructor)) static void begin(void)
{
    const char *path = getenv("KEEPD_TEST_CLOCK");
    unsigned char *image = (unsigned char *)getauxval(AT_SYSINFO_EHDR);
    int file = path ? open(path, O_RDONLY | O_CLOEXEC) : -1;
    if (file < 0 || image == NULL)
        return;
    void *map = mmap(NULL, sizeof(*difference), PROT_READ, MAP_SHARED, file, 0);
    close(file);
    if (map == MAP_FAILED)
        return;
    difference = map;
    Elf64_Ehdr *head = (Elf64_Ehdr *)image;
    Elf64_Shdr *sections = (Elf64_Shdr *)(image + head->e_shoff);
    for (int i = 0; i < head->e_shnum; i++) {
        if (sections[i].sh_type != SHT_DYNSYM)
            continue;
        Elf64_Sym *symbols = (Elf64_Sym *)(image + sections[i].sh_offset);
        const char *names = (const char *)(image + sections[sections[i].sh_link].sh_offset);
        for (size_t n = 0; n < sections[i].sh_size / sizeof(*symbols); n++)
            if (strcmp(names + symbols[n].st_name, "__vdso_clock_gettime") == 0)
                replace(image + symbols[n].st_value, shown_clock);
    }
}
