/* SPDX-License-Identifier: Apache-2.0
 *
 * All maps. User space pins them by these names, so they outlive the agent.
 *
 * Tables that user space fills are allocated as they grow; the LRU tables, which the programs fill
 * in contexts that must not allocate, take their memory at once (about 18 MB together).
 */
#ifndef PENSTOCK_MAPS_H
#define PENSTOCK_MAPS_H

#define TABLE(name, map_type, key_type, value_type, size, flags)                                   \
	struct {                                                                                   \
		__uint(type, map_type);                                                            \
		__uint(max_entries, size);                                                         \
		__uint(map_flags, flags);                                                          \
		__type(key, key_type);                                                             \
		__type(value, value_type);                                                         \
	} name SEC(".maps")

/* Written by user space. */
TABLE(config, BPF_MAP_TYPE_ARRAY, __u32, struct config, 1, 0);
TABLE(pods, BPF_MAP_TYPE_HASH, __u64, struct pod, 4096, BPF_F_NO_PREALLOC);
TABLE(pod_addresses, BPF_MAP_TYPE_HASH, struct address, __u64, 8192, BPF_F_NO_PREALLOC);
TABLE(identities, BPF_MAP_TYPE_LPM_TRIE, struct identity_key, __u32, 262144, BPF_F_NO_PREALLOC);
TABLE(policy_defaults, BPF_MAP_TYPE_HASH, __u32, struct policy_default, 16384, BPF_F_NO_PREALLOC);
TABLE(policy, BPF_MAP_TYPE_HASH, struct policy_key, struct policy_entry, 262144,
      BPF_F_NO_PREALLOC);
TABLE(namespaces, BPF_MAP_TYPE_HASH, struct namespace_name, __u32, 65535, BPF_F_NO_PREALLOC);
TABLE(services, BPF_MAP_TYPE_HASH, struct service_key, struct service, 65536, BPF_F_NO_PREALLOC);
TABLE(backends, BPF_MAP_TYPE_HASH, struct backend_key, struct backend, 262144, BPF_F_NO_PREALLOC);

/* Written by the programs. The first two are read while a connection is set up, so losing the
 * entry of an old connection to a new one costs nothing.
 */
TABLE(original_destinations, BPF_MAP_TYPE_LRU_HASH, struct connection, struct endpoint, 32768, 0);
TABLE(marked_legs, BPF_MAP_TYPE_LRU_HASH, struct connection, __u32, 32768, 0);
TABLE(datagram_flows, BPF_MAP_TYPE_LRU_HASH, struct connection, struct datagram_flow, 32768, 0);
TABLE(datagram_origins, BPF_MAP_TYPE_LRU_HASH, struct datagram_origin_key, struct endpoint, 16384,
      0);
TABLE(stays, BPF_MAP_TYPE_LRU_HASH, struct stay_key, struct stay, 32768, 0);
TABLE(listeners, BPF_MAP_TYPE_SOCKHASH, struct listener_key, __u64, 8192, 0);
TABLE(counters, BPF_MAP_TYPE_PERCPU_ARRAY, __u32, __u64, COUNTER_COUNT, 0);

struct {
	__uint(type, BPF_MAP_TYPE_SK_STORAGE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, int);
	__type(value, struct connect_state);
} connects SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_SK_STORAGE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, int);
	__type(value, __u64); /* cookie of the network namespace */
} socket_owners SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 1 << 20);
} events SEC(".maps");

#endif
