/* EAL writes its log to a FILE. Ours keeps the newest bytes in memory, so that a process stays
 * quiet and an error can still quote what EAL said. */
#define _GNU_SOURCE
#include <pthread.h>
#include <stdio.h>
#include <string.h>

#include "shim.h"

#define KEPT_BYTES 16384

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static char kept[KEPT_BYTES];
static size_t kept_bytes;

static ssize_t keep(void *cookie, const char *bytes, size_t n)
{
    const ssize_t taken = (ssize_t)n;

    pthread_mutex_lock(&lock);
    if (n > KEPT_BYTES) {
        bytes += n - KEPT_BYTES;
        n = KEPT_BYTES;
    }
    if (kept_bytes + n > KEPT_BYTES) {
        const size_t old = kept_bytes + n - KEPT_BYTES;
        memmove(kept, kept + old, kept_bytes - old);
        kept_bytes -= old;
    }
    memcpy(kept + kept_bytes, bytes, n);
    kept_bytes += n;
    pthread_mutex_unlock(&lock);
    return taken;
}

bool dpdk_sys_log_capture(void)
{
    FILE *stream = fopencookie(NULL, "w", (cookie_io_functions_t){.write = keep});
    if (stream == NULL)
        return false;
    setvbuf(stream, NULL, _IONBF, 0);
    return rte_openlog_stream(stream) == 0;
}

size_t dpdk_sys_log_take(char *into, size_t n)
{
    pthread_mutex_lock(&lock);
    const size_t taken = kept_bytes < n ? kept_bytes : n;
    memcpy(into, kept + kept_bytes - taken, taken);
    kept_bytes = 0;
    pthread_mutex_unlock(&lock);
    return taken;
}
