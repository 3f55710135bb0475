/* SPDX-License-Identifier: Apache-2.0
 *
 * Layout of everything that crosses the line between the kernel programs and user space.
 *
 * One header for both: the programs include it, `penstock.bpf.abi` mirrors it, and a test
 * compares every size, offset and number. A change of a map's key or value is a new ABI_VERSION.
 *
 * Addresses are 16 bytes in network order, IPv4 as ::ffff:a.b.c.d; ports are in host order.
 * Keys are compared byte by byte, so every gap is a named `reserved` field and is zero.
 */
#ifndef PENSTOCK_ABI_H
#define PENSTOCK_ABI_H

#include <linux/types.h>

#define ABI_VERSION 2

/* Ports of Envoy's listeners inside each pod. Nobody outside the pod may speak to them. */
#define EGRESS_PORT 15001
#define INGRESS_PORT 15006
#define HBONE_PORT 15008

/* SO_MARK of Envoy's upstream sockets. Only sockets of Envoy's own cgroup are believed. */
#define MARK_BASE 0x9e570000u
#define MARK_MASK 0xffffff00u
#define MARK_APP_LEG 0x9e570001u     /* the ingress listener's own leg to the application */
#define MARK_POLICED 0x9e570002u     /* the client's pass has judged the request already */
#define MARK_POLICED_GATEWAY 0x9e570003u /* the same, and the peer is a Gateway */
#define MARK_GATEWAY 0x9e570004u     /* the peer is a Gateway; nobody has judged it */
#define MARK_UNREAD 0x9e570005u      /* of a pod that Envoy passes on unread; nobody has judged it */

#define MAX_BACKENDS 4096   /* of one Service and address family */
#define MAX_BACKENDS_JUDGED 16 /* a proxied Service with more is never refused at connect */
#define UID_SIZE 64
#define COMM_SIZE 16

enum direction {
	DIRECTION_INGRESS = 0,
	DIRECTION_EGRESS = 1,
};

/* As penstock.node.v1.Verdict. On one connection DENY beats PROXY beats ALLOW. */
enum verdict {
	VERDICT_DEFAULT = 0,
	VERDICT_ALLOW = 1,
	VERDICT_DENY = 2,
	VERDICT_PROXY = 3,
};

/* Identities that are not computed; the numbers are Cilium's. */
enum reserved_identity {
	IDENTITY_ANY = 0,
	IDENTITY_HOST = 1,
	IDENTITY_WORLD = 2,
	IDENTITY_INGRESS = 8,
};

enum event_kind {
	EVENT_CONNECT_DENIED = 1,   /* connect() or sendmsg() of a pod */
	EVENT_INBOUND_DROPPED = 2,  /* TCP connection to a pod */
	EVENT_DATAGRAM_DROPPED = 3, /* packet that is not TCP, either direction */
	EVENT_REDIRECTED = 4,       /* connect() sent to the egress listener */
	EVENT_INBOUND_REDIRECTED = 5, /* connection handed to the ingress listener */
	EVENT_CONNECT_ROUTED = 6,   /* connect() of a pod, sent where a route says */
};

/* Why something was refused. */
enum reason {
	REASON_NONE = 0,
	REASON_DENY_ENTRY = 1,     /* a DENY entry of the policy */
	REASON_DEFAULT_DENY = 2,   /* no entry matched and the direction's default is DENY */
	REASON_NO_POLICY = 3,      /* the identity has no policy on this node yet */
	REASON_POLICY_CHANGING = 4, /* the policy changed under the reader again and again */
	REASON_NO_BACKEND = 5,     /* the Service has no backend */
	REASON_BACKENDS_DENIED = 6, /* policy denies every backend of the Service */
	REASON_NO_LISTENER = 7,    /* L7 policy applies and Envoy does not listen in the pod */
	REASON_UNKNOWN_POD = 8,    /* a socket or address of no registered pod */
	REASON_PROXY_PORT = 9,     /* somebody wanted to use one of Envoy's in-pod listeners */
	REASON_NOT_PROXIABLE = 10, /* L7 policy on a protocol that the proxy does not speak */
	REASON_UNREADABLE = 11,    /* a packet whose headers cannot be followed */
	REASON_NO_MEMORY = 12,
	REASON_FOREIGN_ADDRESS = 13, /* a packet of a pod with the address of somebody else */
	REASON_NOWHERE = 14, /* the share of a route's backend that is not there */
};

enum counter {
	COUNTER_EVENTS_LOST = 0,
	COUNTER_CONNECTS_DENIED = 1,
	COUNTER_CONNECTS_REDIRECTED = 2,
	COUNTER_CONNECTS_BALANCED = 3,
	COUNTER_DATAGRAMS_BALANCED = 4,
	COUNTER_INBOUND_DROPPED = 5,
	COUNTER_INBOUND_REDIRECTED = 6,
	COUNTER_INBOUND_POLICED = 7,  /* passed by the listener thanks to a mark */
	COUNTER_DATAGRAMS_DROPPED = 8,
	COUNTER_LISTENERS_SEEN = 9,
	COUNTER_ORIGINAL_DESTINATIONS_READ = 10,
	COUNTER_COUNT = 11,
};

/* Bits of config.flags. */
#define CONFIG_EVENTS_REDIRECTED 1u /* also report connections that are redirected, not refused */

/* Bits of pod.flags. */
#define POD_UNPOLICED 1u /* neither judged nor redirected; Services are served */

/* Bits of service.flags. */
#define SERVICE_PROXY 1u  /* clients go to the egress listener, Envoy balances */
#define SERVICE_ROUTED 2u /* a route chose the backends: its connections are reported */
#define SERVICE_STAY_SHIFT 8 /* above: seconds for which a client stays at its backend; 0: none */

#define NAMESPACE_SIZE 64

struct address {
	__u32 word[4];
};

struct endpoint {
	struct address address;
	__u16 port;
	__u16 reserved;
};

/* config[0] */
struct config {
	__u64 host_netns_cookie; /* sockets of this namespace are the node's own, never a pod's */
	__u32 abi_version;
	__u32 flags;
	__u64 envoy_cgroup; /* id of Envoy's cgroup, which may lie below the pods' */
};

/* pods[netns cookie] */
struct pod {
	__u32 identity;
	__u16 flags;
	__u16 namespace;     /* its number; 0 if it is not known */
	struct address ipv4; /* zero: none */
	struct address ipv6;
	char uid[UID_SIZE]; /* for user space only, NUL-terminated */
};

/* identities: longest prefix → __u32 identity; an IPv4 prefix is 96 bits longer here. */
struct identity_key {
	__u32 prefix_length;
	struct address address;
};

/* policy_defaults[identity]; an identity that is not there is closed. */
struct policy_default {
	__u32 revision; /* changes whenever a reader must not mix what it read before and after */
	__u8 ingress;   /* enum verdict, ALLOW or DENY */
	__u8 egress;
	__u16 reserved;
};

struct policy_key {
	__u32 identity; /* whose policy */
	__u32 peer;     /* zeros are wildcards from here on */
	__u16 port;     /* of the server's pod */
	__u8 protocol;
	__u8 direction; /* enum direction */
};

struct policy_entry {
	__u32 verdict; /* enum verdict */
};

/* namespaces → __u32 number, at most 16 bits and never 0; for user space only. */
struct namespace_name {
	char name[NAMESPACE_SIZE]; /* NUL-terminated */
};

/* What the pods of one namespace reach at a frontend, or with namespace 0 all others. */
struct service_key {
	struct endpoint frontend;
	__u16 protocol;
	__u16 namespace;
};

struct service {
	__u32 id;         /* unique for each key */
	__u32 generation; /* of its backends; they are written before the service that names them */
	__u32 count;
	__u32 total_weight;
	__u32 flags;
};

struct backend_key {
	__u32 service;
	__u32 generation;
	__u32 index; /* 0 to count - 1 */
};

struct backend {
	struct endpoint endpoint; /* port 0: who is led there is refused */
	__u32 cumulative_weight; /* sum of the weights up to and including this one */
};

/* stays → struct stay: where a client of a Service was led last. A client is a network namespace. */
struct stay_key {
	__u64 netns_cookie;
	__u32 service;
	__u32 reserved;
};

struct stay {
	__u64 last_seen_ns; /* CLOCK_MONOTONIC, of the last connection or datagram */
	struct endpoint backend;
	__u32 reserved;
};

/* original_destinations → struct endpoint (with cookie: 127.0.0.1 is the same in all pods),
 * marked_legs → __u32 mark (cookie 0), datagram_flows → struct datagram_flow (cookie 0, source
 * is the pod's side).
 */
struct connection {
	struct address source;
	struct address destination;
	__u16 source_port;
	__u16 destination_port;
	__u32 reserved;
	__u64 netns_cookie;
};

struct datagram_flow {
	__u64 last_seen_ns; /* CLOCK_MONOTONIC */
	__u32 direction;    /* of the packet that began it */
	__u32 reserved;
};

/* datagram_origins → struct endpoint: the Service that a datagram to this backend was sent to. */
struct datagram_origin_key {
	__u64 socket_cookie;
	struct endpoint backend;
	__u32 reserved;
};

/* connects: storage of a socket that was sent elsewhere than it asked for. */
struct connect_state {
	struct endpoint requested;
	__u32 redirected; /* 1: to the egress listener, 0: to a backend */
};

/* listeners → socket: Envoy's ingress listener in a pod. */
struct listener_key {
	__u64 netns_cookie;
	__u32 family; /* AF_INET or AF_INET6 */
	__u32 reserved;
};

struct event {
	__u64 timestamp_ns; /* CLOCK_MONOTONIC */
	__u64 netns_cookie; /* of the pod; 0 if it is not known */
	struct address source;
	struct address destination; /* what was judged: a pod's address where there is one */
	struct address requested;   /* what the process asked for, such as a virtual IP */
	__u32 source_identity;
	__u32 destination_identity;
	__u16 source_port; /* 0 where the kernel has not chosen it yet */
	__u16 destination_port;
	__u16 requested_port;
	__u8 kind;      /* enum event_kind */
	__u8 direction; /* enum direction, seen from the pod */
	__u8 protocol;
	__u8 reason; /* enum reason */
	__u16 reserved;
	__u32 pid; /* of a process that called; 0 for packets */
	char comm[COMM_SIZE];
};

#define ABI_SIZE(type, size)                                                                       \
	_Static_assert(sizeof(struct type) == (size), #type " has another size")
ABI_SIZE(address, 16);
ABI_SIZE(endpoint, 20);
ABI_SIZE(config, 24);
ABI_SIZE(pod, 104);
ABI_SIZE(identity_key, 20);
ABI_SIZE(policy_default, 8);
ABI_SIZE(policy_key, 12);
ABI_SIZE(policy_entry, 4);
ABI_SIZE(namespace_name, 64);
ABI_SIZE(service_key, 24);
ABI_SIZE(service, 20);
ABI_SIZE(backend_key, 12);
ABI_SIZE(backend, 24);
ABI_SIZE(stay_key, 16);
ABI_SIZE(stay, 32);
ABI_SIZE(connection, 48);
ABI_SIZE(datagram_flow, 16);
ABI_SIZE(datagram_origin_key, 32);
ABI_SIZE(connect_state, 24);
ABI_SIZE(listener_key, 16);
ABI_SIZE(event, 104);
#undef ABI_SIZE

#endif
