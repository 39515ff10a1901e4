/* What DPDK has only as static inlines or thread-local variables, at burst level. */
#ifndef DPDK_SYS_SHIM_H
#define DPDK_SYS_SHIM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <rte_bus_vdev.h>
#include <rte_dev.h>
#include <rte_eal.h>
#include <rte_errno.h>
#include <rte_eth_ring.h>
#include <rte_ethdev.h>
#include <rte_lcore.h>
#include <rte_log.h>
#include <rte_malloc.h>
#include <rte_mbuf.h>
#include <rte_memory.h>
#include <rte_mempool.h>
#include <rte_ring.h>
#include <rte_version.h>

/* Constants that are casts or shifts in DPDK, which bindgen leaves out. */
static const uint64_t DPDK_SYS_TX_OFFLOAD_MULTI_SEGS = RTE_ETH_TX_OFFLOAD_MULTI_SEGS;
static const uint64_t DPDK_SYS_MBUF_F_INDIRECT = RTE_MBUF_F_INDIRECT;
static const uint64_t DPDK_SYS_MBUF_F_EXTERNAL = RTE_MBUF_F_EXTERNAL;
static const uint32_t DPDK_SYS_LCORE_ID_ANY = LCORE_ID_ANY;

int dpdk_sys_errno(void);
uint32_t dpdk_sys_lcore_id(void);
uint64_t dpdk_sys_rdtsc(void);
uint64_t dpdk_sys_tsc_hz(void);

uint16_t dpdk_sys_eth_rx_burst(uint16_t port, uint16_t queue, struct rte_mbuf **mbufs, uint16_t n);
uint16_t dpdk_sys_eth_tx_burst(uint16_t port, uint16_t queue, struct rte_mbuf **mbufs, uint16_t n);

/* 0, or a negative errno and nothing taken. The mbufs are reset, refcnt 1. */
int dpdk_sys_pktmbuf_alloc_bulk(struct rte_mempool *pool, struct rte_mbuf **mbufs, unsigned int n);
/* Straight to the mempool: the mbufs are not looked at (they must be as allocated: direct,
 * refcnt 1, one segment, next NULL). */
void dpdk_sys_mempool_put_bulk(struct rte_mempool *pool, struct rte_mbuf **mbufs, unsigned int n);
/* 0, or a negative errno and nothing taken. The mbufs are as they were put back. */
int dpdk_sys_mempool_get_bulk(struct rte_mempool *pool, struct rte_mbuf **mbufs, unsigned int n);
/* Let `indirect[i]` (fresh from alloc) speak of `direct[i]`'s bytes; adds a reference to it. */
void dpdk_sys_pktmbuf_attach_bulk(struct rte_mbuf **indirect, struct rte_mbuf **direct, unsigned int n);
/* Give the lcore's cache of this pool back to the pool. */
void dpdk_sys_mempool_cache_flush(struct rte_mempool *pool);
struct rte_mempool *dpdk_sys_mbuf_pool(const struct rte_mbuf *mbuf);
uint32_t dpdk_sys_mempool_object_bytes(const struct rte_mempool *pool);

/* offsetof(struct rte_mbuf, field) in the order given in shim.c; for the layout test. */
size_t dpdk_sys_mbuf_layout(size_t *offsets, size_t n);

/* log.c: EAL's log goes to a private buffer that keeps the newest bytes. */
bool dpdk_sys_log_capture(void);
size_t dpdk_sys_log_take(char *into, size_t n);

#endif
