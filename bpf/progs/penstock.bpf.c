// SPDX-License-Identifier: Apache-2.0
/*
 * The socket datapath of a node. One object; user space attaches
 *   to the pods' cgroup: connect4/6, sendmsg4/6, recvmsg4/6, getpeername4/6, pod_socket,
 *     pod_sockops, pod_packet_in, pod_packet_out;
 *   to Envoy's cgroup: envoy_sockops, envoy_getsockopt;
 *   to the network namespace of every pod: pod_inbound (sk_lookup).
 *
 * Built from UAPI headers only: no BTF of the running kernel, no CO-RE. Needs Linux 6.1:
 * none older was tried; what is used came by 5.18 (bpf_set_retval).
 */
#include <stdbool.h>

#include <linux/bpf.h>
#include <linux/types.h>
#include <asm-generic/errno.h>
#include <linux/if_ether.h>
#include <linux/in.h>
#include <linux/in6.h>
#include <linux/ip.h>
#include <linux/ipv6.h>

#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#include <penstock/abi.h>

#include "context.h"
#include "address.h"
#include "maps.h"
#include "events.h"
#include "policy.h"
#include "services.h"
#include "connect.h"
#include "bind.h"
#include "datagrams.h"
#include "sockops.h"
#include "inbound.h"
#include "packets.h"

/* No helper that is used here is reserved for programs under the GPL. */
const char _license[] SEC("license") = "Apache-2.0";
