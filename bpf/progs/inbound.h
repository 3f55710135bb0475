/* SPDX-License-Identifier: Apache-2.0
 *
 * New TCP connections to pods, in each pod's network namespace: verdict, then the application or
 * Envoy's ingress listener. Covers every process of the pod, also one outside of its cgroup.
 */
#ifndef PENSTOCK_INBOUND_H
#define PENSTOCK_INBOUND_H

#define LOOPBACK_INTERFACE 1 /* the first interface of every network namespace */

struct inbound {
	struct connection connection;
	__u64 netns_cookie; /* of the pod */
	__u32 source_identity;
	__u32 identity;
};

static __always_inline void inbound_connection(struct bpf_sk_lookup *ctx,
					       struct connection *connection)
{
	if (CTX_LOAD(ctx, family) == AF_INET) {
		connection->source = mapped_address(CTX_LOAD(ctx, remote_ip4));
		connection->destination = mapped_address(CTX_LOAD(ctx, local_ip4));
	} else {
		connection->source = CTX_LOAD_ADDRESS(ctx, remote_ip6);
		connection->destination = CTX_LOAD_ADDRESS(ctx, local_ip6);
	}
	connection->source_port = bpf_ntohs(CTX_LOAD(ctx, remote_port));
	connection->destination_port = CTX_LOAD(ctx, local_port);
}

static __always_inline void inbound_event(const struct inbound *inbound, __u8 kind, __u8 reason)
{
	struct event event = {
		.netns_cookie = inbound->netns_cookie,
		.source = inbound->connection.source,
		.destination = inbound->connection.destination,
		.requested = inbound->connection.destination,
		.source_port = inbound->connection.source_port,
		.destination_port = inbound->connection.destination_port,
		.requested_port = inbound->connection.destination_port,
		.source_identity = inbound->source_identity,
		.destination_identity = inbound->identity,
		.kind = kind,
		.direction = DIRECTION_INGRESS,
		.protocol = IPPROTO_TCP,
		.reason = reason,
	};

	event_send(&event);
}

/* The caller gets a reset. */
static __always_inline int inbound_drop(const struct inbound *inbound, __u8 reason)
{
	inbound_event(inbound, EVENT_INBOUND_DROPPED, reason);
	count(COUNTER_INBOUND_DROPPED);
	return SK_DROP;
}

static __always_inline int inbound_redirect(struct bpf_sk_lookup *ctx,
					    const struct inbound *inbound)
{
	struct listener_key key = {
		.netns_cookie = inbound->netns_cookie,
		.family = CTX_LOAD(ctx, family),
	};
	struct bpf_sock *listener = bpf_map_lookup_elem(&listeners, &key);

	if (!listener)
		return inbound_drop(inbound, REASON_NO_LISTENER);
	long failed = bpf_sk_assign(ctx, listener, 0);

	bpf_sk_release(listener);
	if (failed)
		return inbound_drop(inbound, REASON_NO_LISTENER);
	if (redirections_are_events())
		inbound_event(inbound, EVENT_INBOUND_REDIRECTED, REASON_NONE);
	count(COUNTER_INBOUND_REDIRECTED);
	return SK_PASS;
}

/* What may pass by the listener is exactly: the pod to itself, the listener's own leg (the same
 * two addresses, or its mark), and a connection marked as policed where the verdict is PROXY.
 * "Envoy made it" is not enough: egress would then skip the server's ingress policy.
 */
static __always_inline int inbound_judged(struct bpf_sk_lookup *ctx, struct inbound *inbound,
					  __u32 mark)
{
	const struct connection *connection = &inbound->connection;
	int verdict = judge(inbound->identity, inbound->source_identity,
			    connection->destination_port, IPPROTO_TCP, DIRECTION_INGRESS);

	if (verdict == VERDICT_ALLOW)
		return SK_PASS;
	if (verdict < 0)
		return inbound_drop(inbound, -verdict);
	if (mark == MARK_POLICED || mark == MARK_POLICED_GATEWAY) {
		count(COUNTER_INBOUND_POLICED);
		return SK_PASS;
	}
	return inbound_redirect(ctx, inbound);
}

SEC("sk_lookup")
int pod_inbound(struct bpf_sk_lookup *ctx)
{
	struct inbound inbound = {};
	struct connection *connection = &inbound.connection;

	if (CTX_LOAD(ctx, protocol) != IPPROTO_TCP)
		return SK_PASS;
	if (CTX_LOAD(ctx, ingress_ifindex) == LOOPBACK_INTERFACE)
		return SK_PASS;
	inbound_connection(ctx, connection);
	/* a pod's traffic to its own address does not carry the loopback's index */
	if (same_address(&connection->source, &connection->destination))
		return SK_PASS;
	__u32 *found = bpf_map_lookup_elem(&marked_legs, connection);
	__u32 mark = found ? *found : 0;

	if (mark == MARK_APP_LEG)
		return SK_PASS;
	if (mark == MARK_POLICED_GATEWAY || mark == MARK_GATEWAY)
		inbound.source_identity = IDENTITY_INGRESS;
	else
		inbound.source_identity = identity_of(&connection->source);
	struct pod *pod = pod_at(&connection->destination, &inbound.netns_cookie);

	if (!pod)
		return inbound_drop(&inbound, REASON_UNKNOWN_POD);
	inbound.identity = pod->identity;
	/* a listener that others could use would lend them this pod's identity */
	if (is_proxy_port(connection->destination_port))
		return inbound_drop(&inbound, REASON_PROXY_PORT);
	return inbound_judged(ctx, &inbound, mark);
}

#endif
