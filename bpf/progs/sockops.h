/* SPDX-License-Identifier: Apache-2.0
 *
 * Life of TCP sockets, in the pods' cgroup and in Envoy's, and SO_ORIGINAL_DST for Envoy.
 */
#ifndef PENSTOCK_SOCKOPS_H
#define PENSTOCK_SOCKOPS_H

#define SO_ORIGINAL_DST 80 /* linux/netfilter_ipv4.h, and IP6T_SO_ORIGINAL_DST */
#define SOL_IP 0
#define SOL_IPV6 41
#define SOCKOPS_DONE 1

static __always_inline void sockops_connection(struct bpf_sock_ops *ctx,
					       struct connection *connection)
{
	if (CTX_LOAD(ctx, family) == AF_INET) {
		connection->source = mapped_address(CTX_LOAD(ctx, local_ip4));
		connection->destination = mapped_address(CTX_LOAD(ctx, remote_ip4));
	} else {
		connection->source = CTX_LOAD_ADDRESS(ctx, local_ip6);
		connection->destination = CTX_LOAD_ADDRESS(ctx, remote_ip6);
	}
	connection->source_port = CTX_LOAD(ctx, local_port);
	connection->destination_port = bpf_ntohl(CTX_LOAD(ctx, remote_port));
}

/* Called before the SYN leaves, when the source port is known: Envoy can ask at once. */
static __always_inline void redirected_connect(struct bpf_sock_ops *ctx)
{
	struct connection connection = {};
	struct bpf_sock *sk = ctx->sk;
	struct connect_state *state = sk ? bpf_sk_storage_get(&connects, sk, 0, 0) : 0;

	if (!state || !state->redirected)
		return;
	sockops_connection(ctx, &connection);
	connection.netns_cookie = bpf_get_netns_cookie(ctx);
	bpf_map_update_elem(&original_destinations, &connection, &state->requested, BPF_ANY);
	bpf_sock_ops_cb_flags_set(ctx, BPF_SOCK_OPS_STATE_CB_FLAG);
}

SEC("sockops")
int pod_sockops(struct bpf_sock_ops *ctx)
{
	struct connection connection = {};

	switch (CTX_LOAD(ctx, op)) {
	case BPF_SOCK_OPS_TCP_CONNECT_CB:
		redirected_connect(ctx);
		break;
	case BPF_SOCK_OPS_STATE_CB:
		if (CTX_LOAD(ctx, args[1]) != BPF_TCP_CLOSE)
			break;
		sockops_connection(ctx, &connection);
		connection.netns_cookie = bpf_get_netns_cookie(ctx);
		bpf_map_delete_elem(&original_destinations, &connection);
		break;
	}
	return SOCKOPS_DONE;
}

/* A leg of Envoy gets a privilege only by the mark of its cluster. That the map is written here
 * and nowhere else is what makes the mark worth something: pods may set SO_MARK too.
 */
static __always_inline void envoy_connect(struct bpf_sock_ops *ctx)
{
	struct connection connection = {};
	struct bpf_sock *sk = ctx->sk;
	__u32 mark;

	if (!sk)
		return;
	mark = CTX_LOAD(sk, mark);
	if ((mark & MARK_MASK) != MARK_BASE)
		return;
	sockops_connection(ctx, &connection);
	bpf_map_update_elem(&marked_legs, &connection, &mark, BPF_ANY);
	bpf_sock_ops_cb_flags_set(ctx, BPF_SOCK_OPS_STATE_CB_FLAG);
}

/* Envoy's own listen() makes it reachable, so a restarted Envoy needs no agent. The entry leaves
 * with the socket.
 */
static __always_inline void envoy_listen(struct bpf_sock_ops *ctx)
{
	struct listener_key key = {};

	if (CTX_LOAD(ctx, local_port) != INGRESS_PORT)
		return;
	key.netns_cookie = bpf_get_netns_cookie(ctx);
	key.family = CTX_LOAD(ctx, family);
	bpf_sock_hash_update(ctx, &listeners, &key, BPF_ANY);
	count(COUNTER_LISTENERS_SEEN);
}

SEC("sockops")
int envoy_sockops(struct bpf_sock_ops *ctx)
{
	struct connection connection = {};

	switch (CTX_LOAD(ctx, op)) {
	case BPF_SOCK_OPS_TCP_CONNECT_CB:
		envoy_connect(ctx);
		break;
	case BPF_SOCK_OPS_TCP_LISTEN_CB:
		envoy_listen(ctx);
		break;
	case BPF_SOCK_OPS_STATE_CB:
		/* not at ESTABLISHED: the ACK that answers a SYN cookie asks sk_lookup again */
		if (CTX_LOAD(ctx, args[1]) != BPF_TCP_CLOSE)
			break;
		sockops_connection(ctx, &connection);
		bpf_map_delete_elem(&marked_legs, &connection);
		break;
	}
	return SOCKOPS_DONE;
}

/* The connection as its client sees it, from the socket that Envoy accepted. */
static __always_inline void accepted_connection(struct bpf_sock *sk, struct connection *connection)
{
	if (CTX_LOAD(sk, family) == AF_INET) {
		connection->source = mapped_address(CTX_LOAD(sk, dst_ip4));
		connection->destination = mapped_address(CTX_LOAD(sk, src_ip4));
	} else {
		connection->source = CTX_LOAD_ADDRESS(sk, dst_ip6);
		connection->destination = CTX_LOAD_ADDRESS(sk, src_ip6);
	}
	connection->source_port = bpf_ntohs(CTX_LOAD(sk, dst_port));
	connection->destination_port = CTX_LOAD(sk, src_port);
}

/* getsockopt(SO_ORIGINAL_DST). Without an entry the kernel's own answer stays, an error, and
 * Envoy does not know where to go: closed, and no loop.
 */
SEC("cgroup/getsockopt")
int envoy_getsockopt(struct bpf_sockopt *ctx)
{
	struct connection connection = {};
	struct bpf_sock *sk = ctx->sk;
	void *value = ctx->optval, *end = ctx->optval_end;
	__s32 level = CTX_LOAD(ctx, level);

	if (CTX_LOAD(ctx, optname) != SO_ORIGINAL_DST || (level != SOL_IP && level != SOL_IPV6) ||
	    !sk)
		return PROCEED;
	accepted_connection(sk, &connection);
	connection.netns_cookie = bpf_get_netns_cookie(ctx);
	struct endpoint *original = bpf_map_lookup_elem(&original_destinations, &connection);

	if (!original)
		return PROCEED;
	if (is_mapped(&original->address)) {
		struct sockaddr_in *ipv4 = value;

		if ((void *)(ipv4 + 1) > end)
			return PROCEED;
		*ipv4 = (struct sockaddr_in){
			.sin_family = AF_INET,
			.sin_port = bpf_htons(original->port),
			.sin_addr.s_addr = original->address.word[3],
		};
		CTX_STORE(ctx, optlen, sizeof(*ipv4));
	} else {
		struct sockaddr_in6 *ipv6 = value;

		if ((void *)(ipv6 + 1) > end)
			return PROCEED;
		ipv6->sin6_family = AF_INET6;
		ipv6->sin6_port = bpf_htons(original->port);
		ipv6->sin6_flowinfo = 0;
		__builtin_memcpy(&ipv6->sin6_addr, &original->address, sizeof(ipv6->sin6_addr));
		ipv6->sin6_scope_id = 0;
		CTX_STORE(ctx, optlen, sizeof(*ipv6));
	}
	CTX_STORE(ctx, retval, 0);
	count(COUNTER_ORIGINAL_DESTINATIONS_READ);
	return PROCEED;
}

#endif
