/* SPDX-License-Identifier: Apache-2.0
 *
 * Packets of pods that are not TCP: UDP, ICMP and the rest, at the pods' cgroup.
 *
 * TCP is judged when a connection begins (connect, sk_lookup), cut by destroying its socket; only
 * TCP that a raw socket writes is judged here. The kernel answers echo requests without a socket
 * of the pod, so a pod's ingress policy for them is applied where another local pod sends them.
 */
#ifndef PENSTOCK_PACKETS_H
#define PENSTOCK_PACKETS_H

#define DROP 0
#define PASS 1

/* linux/icmp.h and icmpv6.h pull in the C library. */
#define ICMP_ECHOREPLY 0
#define ICMP_DEST_UNREACH 3
#define ICMP_TIME_EXCEEDED 11
#define ICMP_PARAMETERPROB 12
#define ICMPV6_ECHO_REPLY 129

#define MAX_EXTENSION_HEADERS 6
#define IPV6_FRAGMENT_OFFSET_MASK 0xfff8
#define IPV4_FRAGMENT_OFFSET_MASK 0x1fff
#define NEXTHDR_HOP 0
#define NEXTHDR_ROUTING 43
#define NEXTHDR_FRAGMENT 44
#define NEXTHDR_AUTH 51
#define NEXTHDR_DEST 60
#define ICMPV6_FIRST_INFORMATIONAL 128
#define NDISC_FIRST 130 /* multicast listener and neighbour discovery: 130 to 137 */
#define NDISC_LAST 137
#define MLD2_REPORT 143

struct packet {
	struct connection connection; /* source and destination as in the packet */
	__u32 offset;                 /* of the transport header */
	__u8 protocol;
	__u8 icmp_type;
	bool fragment; /* not the first: it has no ports */
};

static __always_inline bool read_ipv4(struct __sk_buff *skb, struct packet *packet)
{
	struct iphdr header;

	if (bpf_skb_load_bytes(skb, 0, &header, sizeof(header)))
		return false;
	packet->connection.source = mapped_address(header.saddr);
	packet->connection.destination = mapped_address(header.daddr);
	packet->protocol = header.protocol;
	packet->offset = header.ihl * 4;
	packet->fragment = header.frag_off & bpf_htons(IPV4_FRAGMENT_OFFSET_MASK);
	return true;
}

/* Follow one extension header. Return false if it cannot be read. */
static __always_inline bool read_extension(struct __sk_buff *skb, struct packet *packet)
{
	struct ipv6_opt_hdr extension;
	__be16 fragment_offset;

	if (bpf_skb_load_bytes(skb, packet->offset, &extension, sizeof(extension)))
		return false;
	if (packet->protocol == NEXTHDR_FRAGMENT) {
		if (bpf_skb_load_bytes(skb, packet->offset + sizeof(extension), &fragment_offset,
				       sizeof(fragment_offset)))
			return false;
		packet->fragment = fragment_offset & bpf_htons(IPV6_FRAGMENT_OFFSET_MASK);
		packet->offset += 8;
	} else if (packet->protocol == NEXTHDR_AUTH) {
		packet->offset += (extension.hdrlen + 2) * 4;
	} else {
		packet->offset += (extension.hdrlen + 1) * 8;
	}
	packet->protocol = extension.nexthdr;
	return true;
}

static __always_inline bool is_extension(__u8 protocol)
{
	return protocol == NEXTHDR_HOP || protocol == NEXTHDR_ROUTING ||
	       protocol == NEXTHDR_FRAGMENT || protocol == NEXTHDR_AUTH ||
	       protocol == NEXTHDR_DEST;
}

static __always_inline bool read_ipv6(struct __sk_buff *skb, struct packet *packet)
{
	struct ipv6hdr header;

	if (bpf_skb_load_bytes(skb, 0, &header, sizeof(header)))
		return false;
	__builtin_memcpy(&packet->connection.source, &header.saddr, sizeof(struct address));
	__builtin_memcpy(&packet->connection.destination, &header.daddr, sizeof(struct address));
	packet->protocol = header.nexthdr;
	packet->offset = sizeof(header);
	for (int i = 0; i < MAX_EXTENSION_HEADERS && is_extension(packet->protocol); i++) {
		if (packet->fragment)
			return true; /* what follows is the middle of something */
		if (!read_extension(skb, packet))
			return false;
	}
	return !is_extension(packet->protocol);
}

static __always_inline bool has_ports(__u8 protocol)
{
	return protocol == IPPROTO_UDP || protocol == IPPROTO_TCP || protocol == IPPROTO_SCTP ||
	       protocol == IPPROTO_UDPLITE || protocol == IPPROTO_DCCP;
}

static __always_inline bool is_icmp(__u8 protocol)
{
	return protocol == IPPROTO_ICMP || protocol == IPPROTO_ICMPV6;
}

/* Read what a verdict needs. Return false if the headers cannot be followed. */
static __always_inline bool read_packet(struct __sk_buff *skb, struct packet *packet)
{
	__be16 ports[2];
	bool ipv4 = skb->protocol == bpf_htons(ETH_P_IP);

	if (!(ipv4 ? read_ipv4(skb, packet) : read_ipv6(skb, packet)))
		return false;
	if (packet->fragment)
		return true;
	if (is_icmp(packet->protocol))
		return !bpf_skb_load_bytes(skb, packet->offset, &packet->icmp_type, 1);
	if (!has_ports(packet->protocol))
		return true;
	if (bpf_skb_load_bytes(skb, packet->offset, ports, sizeof(ports)))
		return false;
	packet->connection.source_port = bpf_ntohs(ports[0]);
	packet->connection.destination_port = bpf_ntohs(ports[1]);
	return true;
}

/* Errors about flows, and what the IPv6 of a link needs to live. */
static __always_inline bool is_icmp_control(const struct packet *packet)
{
	__u8 type = packet->icmp_type;

	if (packet->fragment)
		return false;
	if (packet->protocol == IPPROTO_ICMP)
		return type == ICMP_DEST_UNREACH || type == ICMP_TIME_EXCEEDED ||
		       type == ICMP_PARAMETERPROB;
	return packet->protocol == IPPROTO_ICMPV6 &&
	       (type < ICMPV6_FIRST_INFORMATIONAL || (type >= NDISC_FIRST && type <= NDISC_LAST) ||
		type == MLD2_REPORT);
}

static __always_inline bool is_echo_reply(const struct packet *packet)
{
	return (packet->protocol == IPPROTO_ICMP && packet->icmp_type == ICMP_ECHOREPLY) ||
	       (packet->protocol == IPPROTO_ICMPV6 && packet->icmp_type == ICMPV6_ECHO_REPLY);
}

/* One packet and the pod on this side of it. */
struct judged_packet {
	struct packet packet;
	struct connection flow; /* source is the pod's side, whatever the direction */
	__u64 netns_cookie;
	__u32 identity;
	__u32 peer;
	__u32 direction;
};

static __always_inline int packet_judge(const struct judged_packet *judged, __u16 port,
					__u8 direction)
{
	return judge(judged->identity, judged->peer, port, judged->packet.protocol, direction);
}

static __always_inline bool is_recent(const struct datagram_flow *flow, __u64 now)
{
	return now - flow->last_seen_ns < DATAGRAM_TIMEOUT_NS;
}

/* Remember who began, at most once a second: answers are let through for some time. */
static __always_inline void flow_seen(const struct judged_packet *judged)
{
	__u64 now = bpf_ktime_get_ns();
	struct datagram_flow *known = bpf_map_lookup_elem(&datagram_flows, &judged->flow);
	struct datagram_flow flow = {.last_seen_ns = now, .direction = judged->direction};

	if (known && is_recent(known, now)) {
		flow.direction = known->direction;
		if (now - known->last_seen_ns < DATAGRAM_REFRESH_NS)
			return;
	}
	bpf_map_update_elem(&datagram_flows, &judged->flow, &flow, BPF_ANY);
}

/* An answer passes while what it answers is recent and still allowed. The server's port is the
 * source of an answer in both directions.
 */
static __always_inline bool is_answer(const struct judged_packet *judged)
{
	struct datagram_flow *flow = bpf_map_lookup_elem(&datagram_flows, &judged->flow);

	if (!flow || flow->direction == judged->direction || !is_recent(flow, bpf_ktime_get_ns()))
		return false;
	__u8 began = judged->direction == DIRECTION_INGRESS ? DIRECTION_EGRESS : DIRECTION_INGRESS;

	return packet_judge(judged, judged->packet.connection.source_port, began) == VERDICT_ALLOW;
}

static __always_inline int packet_drop(const struct judged_packet *judged, __u8 reason)
{
	const struct connection *connection = &judged->packet.connection;
	bool egress = judged->direction == DIRECTION_EGRESS;
	struct event event = {
		.netns_cookie = judged->netns_cookie,
		.source = connection->source,
		.destination = connection->destination,
		.requested = connection->destination,
		.source_port = connection->source_port,
		.destination_port = connection->destination_port,
		.requested_port = connection->destination_port,
		.source_identity = egress ? judged->identity : judged->peer,
		.destination_identity = egress ? judged->peer : judged->identity,
		.kind = EVENT_DATAGRAM_DROPPED,
		.direction = judged->direction,
		.protocol = judged->packet.protocol,
		.reason = reason,
	};

	event_send(&event);
	count(COUNTER_DATAGRAMS_DROPPED);
	return DROP;
}

static __always_inline int denial(int verdict)
{
	return verdict < 0 ? -verdict : REASON_NOT_PROXIABLE;
}

/* No flow is kept for echo: a reply passes where a request may go. */
static __always_inline int judge_icmp(const struct judged_packet *judged)
{
	bool reply = is_echo_reply(&judged->packet);
	__u8 direction = judged->direction;

	if (reply)
		direction = direction == DIRECTION_INGRESS ? DIRECTION_EGRESS : DIRECTION_INGRESS;
	int verdict = packet_judge(judged, 0, direction);

	if (verdict != VERDICT_ALLOW)
		return packet_drop(judged, denial(verdict));
	if (judged->direction == DIRECTION_INGRESS || reply)
		return PASS;
	__u64 server_cookie = 0;
	struct pod *server = pod_at(&judged->packet.connection.destination, &server_cookie);

	if (!server)
		return PASS;
	verdict = judge(server->identity, judged->identity, 0, judged->packet.protocol,
			DIRECTION_INGRESS);
	return verdict == VERDICT_ALLOW ? PASS : packet_drop(judged, denial(verdict));
}

static __always_inline int judge_ports(const struct judged_packet *judged)
{
	int verdict = packet_judge(judged, judged->packet.connection.destination_port,
				   judged->direction);
	bool datagram = judged->packet.protocol == IPPROTO_UDP && !judged->packet.fragment;

	if (verdict == VERDICT_ALLOW || (datagram && is_answer(judged))) {
		if (datagram)
			flow_seen(judged);
		return PASS;
	}
	return packet_drop(judged, denial(verdict));
}

/* The first protocol number, without looking at anything else. */
static __always_inline __u8 first_protocol(struct __sk_buff *skb)
{
	bool ipv4 = skb->protocol == bpf_htons(ETH_P_IP);
	__u8 protocol = IPPROTO_RAW;

	bpf_skb_load_bytes(skb,
			   ipv4 ? __builtin_offsetof(struct iphdr, protocol)
				: __builtin_offsetof(struct ipv6hdr, nexthdr),
			   &protocol, sizeof(protocol));
	return protocol;
}

/* TCP of the kernel's own connections; a raw socket can write any segment. */
static __always_inline bool is_connection(struct __sk_buff *skb, __u8 protocol, __u32 direction)
{
	struct bpf_sock *sk = skb->sk;

	if (protocol != IPPROTO_TCP)
		return false;
	if (direction == DIRECTION_INGRESS || !sk)
		return true;
	sk = bpf_sk_fullsock(sk);
	return !sk || sk->type != SOCK_RAW;
}

static __always_inline bool is_loopback_traffic(const struct connection *connection)
{
	return is_local(&connection->source) || is_local(&connection->destination);
}

static __always_inline bool is_host_netns(__u64 cookie)
{
	__u32 zero = 0;
	struct config *settings = bpf_map_lookup_elem(&config, &zero);

	return settings && settings->host_netns_cookie == cookie;
}

/* The namespace that the packet's socket was made in: kept in the socket, because programs of this
 * type can ask the kernel for it only since Linux 6.15. A socket older than the programs, or a kind
 * that is not kept, belongs to the pod whose address it uses.
 */
static __always_inline __u64 packet_owner(struct __sk_buff *skb, const struct address *own)
{
	struct bpf_sock *sk = skb->sk;
	__u64 *cookie = 0;

	if (sk)
		sk = bpf_sk_fullsock(sk);
	if (sk)
		cookie = bpf_sk_storage_get(&socket_owners, sk, 0, 0);
	if (!cookie)
		cookie = bpf_map_lookup_elem(&pod_addresses, own);
	return cookie ? *cookie : 0;
}

/* Whose packet it is, the socket's namespace tells, not an address: every process may bind a
 * foreign IPv6 address (IPV6_FREEBIND), and the receiver believes the source.
 */
static __always_inline int judge_packet(struct __sk_buff *skb, __u32 direction)
{
	if (is_connection(skb, first_protocol(skb), direction))
		return PASS; /* nearly all packets */

	struct judged_packet judged = {.direction = direction};
	struct packet *packet = &judged.packet;

	if (!read_packet(skb, packet))
		return packet_drop(&judged, REASON_UNREADABLE);
	if (is_connection(skb, packet->protocol, direction) || is_icmp_control(packet) ||
	    is_loopback_traffic(&packet->connection))
		return PASS;
	judged.flow = packet->connection;
	if (direction == DIRECTION_INGRESS) {
		judged.flow.source = packet->connection.destination;
		judged.flow.destination = packet->connection.source;
		judged.flow.source_port = packet->connection.destination_port;
		judged.flow.destination_port = packet->connection.source_port;
	}
	/* a pod on the host's network lives in the same cgroup and is not policed */
	judged.netns_cookie = packet_owner(skb, &judged.flow.source);
	if (is_host_netns(judged.netns_cookie))
		return PASS;
	struct pod *pod = bpf_map_lookup_elem(&pods, &judged.netns_cookie);

	judged.peer = identity_of(&judged.flow.destination);
	if (!pod)
		return packet_drop(&judged, REASON_UNKNOWN_POD);
	if (pod->flags & POD_UNPOLICED)
		return PASS;
	judged.identity = pod->identity;
	if (!is_own(pod, &judged.flow.source))
		return packet_drop(&judged, REASON_FOREIGN_ADDRESS);
	if (same_address(&packet->connection.source, &packet->connection.destination))
		return PASS;
	if (is_icmp(packet->protocol) && !packet->fragment)
		return judge_icmp(&judged);
	return judge_ports(&judged);
}

/* socket(): remember the namespace of sockets whose packets are judged one by one. */
SEC("cgroup/sock_create")
int pod_socket(struct bpf_sock *ctx)
{
	__u64 cookie = bpf_get_netns_cookie(ctx);

	if (CTX_LOAD(ctx, type) == SOCK_STREAM)
		return PASS;
	return bpf_sk_storage_get(&socket_owners, ctx, &cookie, BPF_SK_STORAGE_GET_F_CREATE) ? PASS
											     : DROP;
}

SEC("cgroup_skb/ingress")
int pod_packet_in(struct __sk_buff *skb)
{
	return judge_packet(skb, DIRECTION_INGRESS);
}

SEC("cgroup_skb/egress")
int pod_packet_out(struct __sk_buff *skb)
{
	return judge_packet(skb, DIRECTION_EGRESS);
}

#endif
