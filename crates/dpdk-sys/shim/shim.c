/* Static inlines as functions: a call per burst, not per packet. */
#include "shim.h"

#include <rte_cycles.h>

int dpdk_sys_errno(void) { return rte_errno; }

uint32_t dpdk_sys_lcore_id(void) { return rte_lcore_id(); }

uint64_t dpdk_sys_rdtsc(void) { return rte_rdtsc(); }

uint64_t dpdk_sys_tsc_hz(void) { return rte_get_tsc_hz(); }

uint16_t dpdk_sys_eth_rx_burst(uint16_t port, uint16_t queue, struct rte_mbuf **mbufs, uint16_t n)
{
    return rte_eth_rx_burst(port, queue, mbufs, n);
}

uint16_t dpdk_sys_eth_tx_burst(uint16_t port, uint16_t queue, struct rte_mbuf **mbufs, uint16_t n)
{
    return rte_eth_tx_burst(port, queue, mbufs, n);
}

int dpdk_sys_pktmbuf_alloc_bulk(struct rte_mempool *pool, struct rte_mbuf **mbufs, unsigned int n)
{
    return rte_pktmbuf_alloc_bulk(pool, mbufs, n);
}

void dpdk_sys_mempool_put_bulk(struct rte_mempool *pool, struct rte_mbuf **mbufs, unsigned int n)
{
    rte_mempool_put_bulk(pool, (void *const *)mbufs, n);
}

int dpdk_sys_mempool_get_bulk(struct rte_mempool *pool, struct rte_mbuf **mbufs, unsigned int n)
{
    return rte_mempool_get_bulk(pool, (void **)mbufs, n);
}

void dpdk_sys_pktmbuf_attach_bulk(struct rte_mbuf **indirect, struct rte_mbuf **direct, unsigned int n)
{
    for (unsigned int i = 0; i < n; i++)
        rte_pktmbuf_attach(indirect[i], direct[i]);
}

void dpdk_sys_mempool_cache_flush(struct rte_mempool *pool)
{
    struct rte_mempool_cache *cache = rte_mempool_default_cache(pool, rte_lcore_id());
    if (cache != NULL)
        rte_mempool_cache_flush(cache, pool);
}

struct rte_mempool *dpdk_sys_mbuf_pool(const struct rte_mbuf *mbuf) { return mbuf->pool; }

uint32_t dpdk_sys_mempool_object_bytes(const struct rte_mempool *pool)
{
    return pool->header_size + pool->elt_size + pool->trailer_size;
}

size_t dpdk_sys_mbuf_layout(size_t *offsets, size_t n)
{
    const size_t layout[] = {
        offsetof(struct rte_mbuf, buf_addr), offsetof(struct rte_mbuf, data_off),
        offsetof(struct rte_mbuf, refcnt),   offsetof(struct rte_mbuf, nb_segs),
        offsetof(struct rte_mbuf, port),     offsetof(struct rte_mbuf, ol_flags),
        offsetof(struct rte_mbuf, pkt_len),  offsetof(struct rte_mbuf, data_len),
        offsetof(struct rte_mbuf, buf_len),  offsetof(struct rte_mbuf, pool),
        offsetof(struct rte_mbuf, next),     sizeof(struct rte_mbuf),
    };
    const size_t have = sizeof(layout) / sizeof(layout[0]);
    for (size_t i = 0; i < n && i < have; i++)
        offsets[i] = layout[i];
    return have;
}
