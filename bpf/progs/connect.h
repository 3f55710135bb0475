/* SPDX-License-Identifier: Apache-2.0
 *
 * connect() and sendmsg() of pods: Service → verdict → refuse, rewrite or redirect.
 *
 * These see sockets made inside the pods' cgroup, whatever the process does later. An IPv4 address
 * on an IPv6 socket arrives at connect6 only (as ::ffff:a.b.c.d), but at sendmsg4.
 */
#ifndef PENSTOCK_CONNECT_H
#define PENSTOCK_CONNECT_H

/* What a sock_addr program returns. */
#define REFUSE 0
#define PROCEED 1

#define MAX_CGROUP_DEPTH 32 /* an Envoy that is deeper below the root is not known as such */
#define DATAGRAM_TIMEOUT_NS 120000000000ULL /* as long as conntrack keeps a UDP stream */
#define DATAGRAM_REFRESH_NS 1000000000ULL

/* Whose socket it is. */
enum caller {
	CALLER_POD,       /* a pod, or nobody that is known */
	CALLER_UNPOLICED, /* the node itself, or a pod that is not policed */
	CALLER_ENVOY,     /* in whatever network namespace it is */
};

struct attempt {
	struct endpoint requested; /* what the process asked for */
	struct endpoint target;    /* where it goes; the caller writes it to the context */
	__u32 identity;            /* of the pod */
	__u32 peer;                /* identity of the target */
	struct address source;     /* the pod's address of the same family */
	__u64 netns_cookie;
	__u8 protocol;
	bool routed; /* to the backend that a route chose */
};

static __always_inline __u8 protocol_of(struct bpf_sock_addr *ctx)
{
	__u32 protocol = CTX_LOAD(ctx, protocol);

	/* a subflow becomes TCP, and falls back to it at a proxy that does not speak MPTCP */
	return protocol == IPPROTO_MPTCP ? IPPROTO_TCP : protocol;
}

/* A function of its own: the event is large, and this way not in the frames of those that go on to
 * call others.
 */
static __noinline void attempt_event(const struct attempt *attempt, __u8 kind, __u8 reason)
{
	struct event event = {
		.netns_cookie = attempt->netns_cookie,
		.source = attempt->source,
		.destination = attempt->target.address,
		.destination_port = attempt->target.port,
		.requested = attempt->requested.address,
		.requested_port = attempt->requested.port,
		.source_identity = attempt->identity,
		.destination_identity = attempt->peer,
		.kind = kind,
		.direction = DIRECTION_EGRESS,
		.protocol = attempt->protocol,
		.reason = reason,
	};

	event_process(&event);
	event_send(&event);
}

/* The caller sees ECONNREFUSED at once, as if nobody listened. */
static __always_inline int refuse(const struct attempt *attempt, __u8 reason)
{
	attempt_event(attempt, EVENT_CONNECT_DENIED, reason);
	count(COUNTER_CONNECTS_DENIED);
	bpf_set_retval(-ECONNREFUSED);
	return REFUSE;
}

/* Remember what was asked for: getpeername() tells it, and sockops stores it for the proxy. */
static __always_inline bool remember(struct bpf_sock_addr *ctx, const struct attempt *attempt,
				     __u32 redirected)
{
	struct bpf_sock *sk = ctx->sk;
	struct connect_state *state;

	if (!sk)
		return false;
	state = bpf_sk_storage_get(&connects, sk, 0, BPF_SK_STORAGE_GET_F_CREATE);
	if (!state)
		return false;
	state->requested = attempt->requested;
	state->redirected = redirected;
	return true;
}

/* A socket may connect again, after a failure or because it is UDP: the old story is over. */
static __always_inline void forget(struct bpf_sock_addr *ctx)
{
	struct bpf_sock *sk = ctx->sk;

	if (sk)
		bpf_sk_storage_delete(&connects, sk);
}

/* Answers from the backend shall seem to come from the Service. */
static __always_inline bool remember_origin(struct bpf_sock_addr *ctx,
					    const struct attempt *attempt)
{
	struct datagram_origin_key key = {
		.socket_cookie = bpf_get_socket_cookie(ctx),
		.backend = attempt->target,
	};

	return !bpf_map_update_elem(&datagram_origins, &key, &attempt->requested, BPF_ANY);
}

/* May this datagram be an answer to one that came in, to the port that the socket is bound to? */
static __always_inline bool is_datagram_answer(struct bpf_sock_addr *ctx,
					       const struct attempt *attempt)
{
	struct bpf_sock *sk = ctx->sk;
	struct connection key = {
		.source = attempt->source,
		.destination = attempt->target.address,
		.destination_port = attempt->target.port,
	};

	if (!sk)
		return false;
	key.source_port = CTX_LOAD(sk, src_port);
	struct datagram_flow *flow = bpf_map_lookup_elem(&datagram_flows, &key);

	return flow && flow->direction == DIRECTION_INGRESS &&
	       bpf_ktime_get_ns() - flow->last_seen_ns < DATAGRAM_TIMEOUT_NS &&
	       judge(attempt->identity, attempt->peer, key.source_port, attempt->protocol,
		     DIRECTION_INGRESS) == VERDICT_ALLOW;
}

static __always_inline int redirect(struct bpf_sock_addr *ctx, struct attempt *attempt)
{
	if (redirections_are_events())
		attempt_event(attempt, EVENT_REDIRECTED, REASON_NONE);
	if (!remember(ctx, attempt, true))
		return refuse(attempt, REASON_NO_MEMORY);
	/* Loopback and not the pod's address: with one address for all Services the ports of
	 * closed connections run out; for loopback the kernel reuses them.
	 */
	attempt->target.address = loopback_like(&attempt->requested.address);
	attempt->target.port = EGRESS_PORT;
	count(COUNTER_CONNECTS_REDIRECTED);
	return PROCEED;
}

/* Policy allows the target, which is a backend if *balanced*. */
static __always_inline int proceed(struct bpf_sock_addr *ctx, struct attempt *attempt,
				   bool balanced)
{
	if (!balanced) {
		forget(ctx);
		return PROCEED;
	}
	if (!remember(ctx, attempt, false))
		return refuse(attempt, REASON_NO_MEMORY);
	if (attempt->protocol == IPPROTO_UDP && !remember_origin(ctx, attempt))
		return refuse(attempt, REASON_NO_MEMORY);
	if (attempt->routed)
		attempt_event(attempt, EVENT_CONNECT_ROUTED, REASON_NONE);
	count(COUNTER_CONNECTS_BALANCED);
	return PROCEED;
}

/* A proxied Service: the proxy chooses the backend, unless none could be allowed. */
static __always_inline int connect_proxied(struct bpf_sock_addr *ctx, struct attempt *attempt,
					   const struct pod *pod, const struct service *service)
{
	struct service_client client = {
		.service = *service,
		.identity = attempt->identity,
		.protocol = attempt->protocol,
		.ipv4 = pod->ipv4,
		.ipv6 = pod->ipv6,
	};

	attempt->peer = identity_of(&attempt->target.address);
	if (service_is_closed(&client))
		return refuse(attempt, REASON_BACKENDS_DENIED);
	return redirect(ctx, attempt);
}

static __always_inline int connect_judged(struct bpf_sock_addr *ctx, struct attempt *attempt,
					  const struct pod *pod, bool balanced)
{
	attempt->peer = identity_of(&attempt->target.address);
	if (is_own(pod, &attempt->target.address))
		return proceed(ctx, attempt, balanced);
	int verdict = judge(attempt->identity, attempt->peer, attempt->target.port,
			    attempt->protocol, DIRECTION_EGRESS);

	if (verdict == VERDICT_ALLOW)
		return proceed(ctx, attempt, balanced);
	if (verdict == VERDICT_PROXY && attempt->protocol == IPPROTO_TCP)
		return redirect(ctx, attempt);
	if (attempt->protocol == IPPROTO_UDP && !balanced && is_datagram_answer(ctx, attempt))
		return proceed(ctx, attempt, false);
	return refuse(attempt, verdict < 0 ? -verdict : REASON_NOT_PROXIABLE);
}

static __always_inline int connect_to_service(struct bpf_sock_addr *ctx, struct attempt *attempt,
					      const struct pod *pod)
{
	struct service_choice choice = {
		.key = {.frontend = attempt->requested, .protocol = attempt->protocol},
		.netns_cookie = attempt->netns_cookie,
	};
	struct service *service = service_find(&choice.key, pod);

	if (!service)
		return connect_judged(ctx, attempt, pod, false);
	if (service->flags & SERVICE_PROXY && attempt->protocol == IPPROTO_TCP)
		return connect_proxied(ctx, attempt, pod, service);
	attempt->routed = service->flags & SERVICE_ROUTED;
	if (!service_pick(&choice))
		return refuse(attempt, REASON_NO_BACKEND);
	if (!choice.backend.port)
		return refuse(attempt, REASON_NOWHERE);
	attempt->target = choice.backend;
	return connect_judged(ctx, attempt, pod, true);
}

/* Envoy may be a pod, below the pods' cgroup: what it dials inside of another pod has been judged,
 * and is marked for who judges it next. How deep its cgroup is, user space cannot tell where it sees
 * a part of the hierarchy only.
 */
static __always_inline bool is_envoy(const struct config *settings)
{
	__u64 envoy = settings->envoy_cgroup;

	for (int level = 1; envoy && level < MAX_CGROUP_DEPTH; level++) {
		__u64 ancestor = bpf_get_current_ancestor_cgroup_id(level);

		if (!ancestor || ancestor == envoy)
			return ancestor;
	}
	return false;
}

/* Fill in who calls; *pod* is set for a pod that is judged. A socket of an unknown namespace keeps
 * identity 0.
 */
static __always_inline enum caller attempt_begin(struct bpf_sock_addr *ctx,
						 struct attempt *attempt, struct pod **pod)
{
	__u32 zero = 0;
	struct config *settings = bpf_map_lookup_elem(&config, &zero);

	attempt->protocol = protocol_of(ctx);
	attempt->target = attempt->requested;
	attempt->netns_cookie = bpf_get_netns_cookie(ctx);
	if (settings && is_envoy(settings))
		return CALLER_ENVOY;
	if (settings && settings->host_netns_cookie == attempt->netns_cookie)
		return CALLER_UNPOLICED;
	struct pod *found = bpf_map_lookup_elem(&pods, &attempt->netns_cookie);

	if (found && found->flags & POD_UNPOLICED)
		return CALLER_UNPOLICED;
	if (found) {
		attempt->identity = found->identity;
		attempt->source = is_mapped(&attempt->requested.address) ? found->ipv4
									 : found->ipv6;
	}
	*pod = found;
	return CALLER_POD;
}

/* Nobody is judged and nothing goes to the proxy, but a Service is what it is for everybody. */
static __always_inline int connect_unpoliced(struct bpf_sock_addr *ctx, struct attempt *attempt)
{
	struct service_choice choice = {
		.key = {.frontend = attempt->requested, .protocol = attempt->protocol},
		.netns_cookie = attempt->netns_cookie,
	};

	if (is_local(&attempt->requested.address) || !bpf_map_lookup_elem(&services, &choice.key)) {
		forget(ctx);
		return PROCEED;
	}
	if (!service_pick(&choice))
		return refuse(attempt, REASON_NO_BACKEND);
	if (!choice.backend.port)
		return refuse(attempt, REASON_NOWHERE);
	attempt->target = choice.backend;
	return proceed(ctx, attempt, true);
}

/* Decide about one connect(); on PROCEED attempt->target is where to go. */
static __noinline int connect_decide(struct bpf_sock_addr *ctx, struct attempt *attempt)
{
	struct pod *pod = 0;
	enum caller caller = attempt_begin(ctx, attempt, &pod);

	if (caller == CALLER_ENVOY)
		return PROCEED;
	if (caller == CALLER_UNPOLICED)
		return connect_unpoliced(ctx, attempt);
	if (is_local(&attempt->requested.address)) {
		/* a proxy that was not told an original destination must not be asked at all */
		if (attempt->protocol == IPPROTO_TCP && is_proxy_port(attempt->requested.port))
			return refuse(attempt, REASON_PROXY_PORT);
		forget(ctx);
		return PROCEED;
	}
	if (!pod)
		return refuse(attempt, REASON_UNKNOWN_POD);
	if (is_own(pod, &attempt->requested.address)) {
		forget(ctx);
		return PROCEED;
	}
	/* ping sockets: cgroup_skb judges their packets */
	if (attempt->protocol == IPPROTO_ICMP || attempt->protocol == IPPROTO_ICMPV6)
		return PROCEED;
	return connect_to_service(ctx, attempt, pod);
}

SEC("cgroup/connect4")
int pod_connect4(struct bpf_sock_addr *ctx)
{
	struct attempt attempt = {
		.requested.address = mapped_address(CTX_LOAD(ctx, user_ip4)),
		.requested.port = bpf_ntohs(CTX_LOAD(ctx, user_port)),
	};

	if (connect_decide(ctx, &attempt) == REFUSE)
		return REFUSE;
	CTX_STORE(ctx, user_ip4, attempt.target.address.word[3]);
	CTX_STORE(ctx, user_port, bpf_htons(attempt.target.port));
	return PROCEED;
}

static __always_inline void store_ipv6(struct bpf_sock_addr *ctx, const struct endpoint *endpoint)
{
	CTX_STORE(ctx, user_ip6[0], endpoint->address.word[0]);
	CTX_STORE(ctx, user_ip6[1], endpoint->address.word[1]);
	CTX_STORE(ctx, user_ip6[2], endpoint->address.word[2]);
	CTX_STORE(ctx, user_ip6[3], endpoint->address.word[3]);
	CTX_STORE(ctx, user_port, bpf_htons(endpoint->port));
}

SEC("cgroup/connect6")
int pod_connect6(struct bpf_sock_addr *ctx)
{
	struct attempt attempt = {
		.requested.address = CTX_LOAD_ADDRESS(ctx, user_ip6),
		.requested.port = bpf_ntohs(CTX_LOAD(ctx, user_port)),
	};

	if (connect_decide(ctx, &attempt) == REFUSE)
		return REFUSE;
	store_ipv6(ctx, &attempt.target);
	return PROCEED;
}

/* What Envoy passes on unread for a pod, from inside of it: the kernel judges as if the pod had
 * connected. Rules that read requests cannot be kept there, so it is refused.
 */
static __noinline int connect_unread(struct bpf_sock_addr *ctx, struct attempt *attempt)
{
	struct bpf_sock *sk = ctx->sk;

	if (!sk || CTX_LOAD(sk, mark) != MARK_UNREAD)
		return PROCEED;
	attempt->protocol = protocol_of(ctx);
	attempt->target = attempt->requested;
	attempt->netns_cookie = bpf_get_netns_cookie(ctx);
	struct pod *pod = bpf_map_lookup_elem(&pods, &attempt->netns_cookie);

	if (!pod || pod->flags & POD_UNPOLICED)
		return refuse(attempt, REASON_UNKNOWN_POD);
	attempt->identity = pod->identity;
	attempt->source = is_mapped(&attempt->requested.address) ? pod->ipv4 : pod->ipv6;
	if (is_own(pod, &attempt->target.address))
		return PROCEED;
	attempt->peer = identity_of(&attempt->target.address);
	int verdict = judge(attempt->identity, attempt->peer, attempt->target.port,
			    attempt->protocol, DIRECTION_EGRESS);

	if (verdict == VERDICT_ALLOW)
		return PROCEED;
	return refuse(attempt, verdict < 0 ? -verdict : REASON_NOT_PROXIABLE);
}

SEC("cgroup/connect4")
int envoy_connect4(struct bpf_sock_addr *ctx)
{
	struct attempt attempt = {
		.requested.address = mapped_address(CTX_LOAD(ctx, user_ip4)),
		.requested.port = bpf_ntohs(CTX_LOAD(ctx, user_port)),
	};

	return connect_unread(ctx, &attempt);
}

SEC("cgroup/connect6")
int envoy_connect6(struct bpf_sock_addr *ctx)
{
	struct attempt attempt = {
		.requested.address = CTX_LOAD_ADDRESS(ctx, user_ip6),
		.requested.port = bpf_ntohs(CTX_LOAD(ctx, user_port)),
	};

	return connect_unread(ctx, &attempt);
}

/* getpeername() tells the address that the process asked for. */
SEC("cgroup/getpeername4")
int pod_getpeername4(struct bpf_sock_addr *ctx)
{
	struct bpf_sock *sk = ctx->sk;
	struct connect_state *state = sk ? bpf_sk_storage_get(&connects, sk, 0, 0) : 0;

	if (!state)
		return PROCEED;
	CTX_STORE(ctx, user_ip4, state->requested.address.word[3]);
	CTX_STORE(ctx, user_port, bpf_htons(state->requested.port));
	return PROCEED;
}

SEC("cgroup/getpeername6")
int pod_getpeername6(struct bpf_sock_addr *ctx)
{
	struct bpf_sock *sk = ctx->sk;
	struct connect_state *state = sk ? bpf_sk_storage_get(&connects, sk, 0, 0) : 0;

	if (state)
		store_ipv6(ctx, &state->requested);
	return PROCEED;
}

#endif
