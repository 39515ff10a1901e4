/* Stand-ins for what Debian's archives cannot give to a shared object: libnuma.a and libelf.a are
 * PIE with local-exec TLS, libbpf.a and libxdp.a take the address of stderr. */
#define _GNU_SOURCE
#include <stdio.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <unistd.h>

/* libbpf and libxdp are renamed to use this one (build/archives.rs). */
FILE *dpdk_sys_stderr;

__attribute__((constructor)) static void set_stderr(void) { dpdk_sys_stderr = stderr; }

/* libnuma: the seven functions that EAL and vhost call, as the system calls that they are. */
#define NODES_MAX 1024
#define WORD_BITS (8 * sizeof(unsigned long))

enum { PREFERRED = 1, LOCAL = 4 };

struct bitmask {
    unsigned long size;
    unsigned long *maskp;
};

long get_mempolicy(int *mode, unsigned long *nodes, unsigned long max_node, void *address, unsigned int flags)
{
    return syscall(SYS_get_mempolicy, mode, nodes, max_node, address, flags);
}

long set_mempolicy(int mode, const unsigned long *nodes, unsigned long max_node)
{
    return syscall(SYS_set_mempolicy, mode, nodes, max_node);
}

int numa_available(void) { return get_mempolicy(NULL, NULL, 0, NULL, 0) == 0 ? 0 : -1; }

void numa_set_preferred(int node)
{
    unsigned long nodes[NODES_MAX / WORD_BITS] = {0};

    if (node < 0 || node >= NODES_MAX)
        return;
    nodes[(size_t)node / WORD_BITS] = 1UL << ((size_t)node % WORD_BITS);
    set_mempolicy(PREFERRED, nodes, NODES_MAX + 1);
}

void numa_set_localalloc(void) { set_mempolicy(LOCAL, NULL, 0); }

struct bitmask *numa_allocate_nodemask(void)
{
    struct bitmask *mask = calloc(1, sizeof(*mask));

    if (mask == NULL)
        return NULL;
    mask->size = NODES_MAX;
    mask->maskp = calloc(NODES_MAX / WORD_BITS, sizeof(unsigned long));
    if (mask->maskp == NULL) {
        free(mask);
        return NULL;
    }
    return mask;
}

void numa_bitmask_free(struct bitmask *mask)
{
    if (mask == NULL)
        return;
    free(mask->maskp);
    free(mask);
}

/* libelf: its error word is a thread-local that a shared object cannot have; one is enough. */
static int elf_error;

void __libelf_seterrno(int error) { elf_error = error; }

int elf_errno(void)
{
    const int error = elf_error;

    elf_error = 0;
    return error;
}

const char *elf_errmsg(int error) { return error == 0 ? NULL : "libelf failed"; }
