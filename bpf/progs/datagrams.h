/* SPDX-License-Identifier: Apache-2.0
 *
 * sendmsg() and recvmsg() of unconnected UDP sockets of pods.
 */
#ifndef PENSTOCK_DATAGRAMS_H
#define PENSTOCK_DATAGRAMS_H

/* As connect_decide, but nothing is kept in the socket: each datagram has its own destination. */
static __noinline int sendmsg_decide(struct bpf_sock_addr *ctx, struct attempt *attempt)
{
	struct pod *pod = 0;
	bool balanced = false;
	enum caller caller = attempt_begin(ctx, attempt, &pod);

	if (caller == CALLER_ENVOY || is_local(&attempt->requested.address))
		return PROCEED;
	if (caller == CALLER_POD && !pod)
		return refuse(attempt, REASON_UNKNOWN_POD);
	struct service_choice choice = {
		.key = {.frontend = attempt->requested, .protocol = attempt->protocol},
		.netns_cookie = attempt->netns_cookie,
	};

	if (service_find(&choice.key, pod)) {
		if (!service_pick(&choice))
			return refuse(attempt, REASON_NO_BACKEND);
		if (!choice.backend.port)
			return refuse(attempt, REASON_NOWHERE);
		attempt->target = choice.backend;
		balanced = true;
	}
	attempt->peer = identity_of(&attempt->target.address);
	if (pod && !is_own(pod, &attempt->target.address)) {
		int verdict = judge(attempt->identity, attempt->peer, attempt->target.port,
				    attempt->protocol, DIRECTION_EGRESS);

		if (verdict != VERDICT_ALLOW && (balanced || !is_datagram_answer(ctx, attempt)))
			return refuse(attempt, verdict < 0 ? -verdict : REASON_NOT_PROXIABLE);
	}
	if (!balanced)
		return PROCEED;
	if (!remember_origin(ctx, attempt))
		return refuse(attempt, REASON_NO_MEMORY);
	count(COUNTER_DATAGRAMS_BALANCED);
	return PROCEED;
}

SEC("cgroup/sendmsg4")
int pod_sendmsg4(struct bpf_sock_addr *ctx)
{
	struct attempt attempt = {
		.requested.address = mapped_address(CTX_LOAD(ctx, user_ip4)),
		.requested.port = bpf_ntohs(CTX_LOAD(ctx, user_port)),
	};

	if (sendmsg_decide(ctx, &attempt) == REFUSE)
		return REFUSE;
	CTX_STORE(ctx, user_ip4, attempt.target.address.word[3]);
	CTX_STORE(ctx, user_port, bpf_htons(attempt.target.port));
	return PROCEED;
}

SEC("cgroup/sendmsg6")
int pod_sendmsg6(struct bpf_sock_addr *ctx)
{
	struct attempt attempt = {
		.requested.address = CTX_LOAD_ADDRESS(ctx, user_ip6),
		.requested.port = bpf_ntohs(CTX_LOAD(ctx, user_port)),
	};

	if (sendmsg_decide(ctx, &attempt) == REFUSE)
		return REFUSE;
	store_ipv6(ctx, &attempt.target);
	return PROCEED;
}

static __always_inline struct endpoint *datagram_origin(struct bpf_sock_addr *ctx,
							struct address sender)
{
	struct datagram_origin_key key = {
		.socket_cookie = bpf_get_socket_cookie(ctx),
		.backend.address = sender,
		.backend.port = bpf_ntohs(CTX_LOAD(ctx, user_port)),
	};

	return bpf_map_lookup_elem(&datagram_origins, &key);
}

SEC("cgroup/recvmsg4")
int pod_recvmsg4(struct bpf_sock_addr *ctx)
{
	struct endpoint *origin = datagram_origin(ctx, mapped_address(CTX_LOAD(ctx, user_ip4)));

	if (!origin)
		return PROCEED;
	CTX_STORE(ctx, user_ip4, origin->address.word[3]);
	CTX_STORE(ctx, user_port, bpf_htons(origin->port));
	return PROCEED;
}

SEC("cgroup/recvmsg6")
int pod_recvmsg6(struct bpf_sock_addr *ctx)
{
	struct endpoint *origin = datagram_origin(ctx, CTX_LOAD_ADDRESS(ctx, user_ip6));

	if (origin)
		store_ipv6(ctx, origin);
	return PROCEED;
}

#endif
