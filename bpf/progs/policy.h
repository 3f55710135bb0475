/* SPDX-License-Identifier: Apache-2.0
 *
 * Identities and L3/L4 verdicts.
 */
#ifndef PENSTOCK_POLICY_H
#define PENSTOCK_POLICY_H

#define POLICY_ATTEMPTS 4

static __always_inline __u32 identity_of(const struct address *address)
{
	struct identity_key key = {.prefix_length = 128, .address = *address};
	__u32 *identity = bpf_map_lookup_elem(&identities, &key);

	return identity ? *identity : IDENTITY_WORLD;
}

static __always_inline struct pod *pod_at(const struct address *address, __u64 *cookie)
{
	__u64 *found = bpf_map_lookup_elem(&pod_addresses, address);

	if (!found)
		return 0;
	*cookie = *found;
	return bpf_map_lookup_elem(&pods, cookie);
}

static __always_inline bool is_own(const struct pod *pod, const struct address *address)
{
	return same_address(&pod->ipv4, address) || same_address(&pod->ipv6, address);
}

/* A set of verdicts: bit n for verdict n. */
static __always_inline __u32 policy_seen(const struct policy_key *key)
{
	struct policy_entry *entry = bpf_map_lookup_elem(&policy, key);

	return entry ? 1u << (entry->verdict & 3) : 0;
}

/* (peer, port, protocol), (peer, 0, protocol), (peer, 0, 0), and the same for any peer. */
static __always_inline __u32 policy_seen_for(struct policy_key flow)
{
	__u16 port = flow.port;
	__u8 protocol = flow.protocol;
	__u32 seen = policy_seen(&flow);

	flow.port = 0;
	seen |= policy_seen(&flow);
	flow.protocol = 0;
	seen |= policy_seen(&flow);
	flow.peer = IDENTITY_ANY;
	seen |= policy_seen(&flow);
	flow.protocol = protocol;
	seen |= policy_seen(&flow);
	flow.port = port;
	return seen | policy_seen(&flow);
}

static __always_inline int policy_conclude(__u32 seen, __u32 fallback)
{
	if (seen & (1u << VERDICT_DENY))
		return -REASON_DENY_ENTRY;
	if (seen & (1u << VERDICT_PROXY))
		return VERDICT_PROXY;
	if ((seen & (1u << VERDICT_ALLOW)) || fallback == VERDICT_ALLOW)
		return VERDICT_ALLOW;
	return -REASON_DEFAULT_DENY;
}

/* Return VERDICT_ALLOW or VERDICT_PROXY, or minus the reason of a denial.
 *
 * User space changes a policy in phases: what closes first, what opens last, and a new revision
 * between them. A reader that saw entries of both sides of such a step could miss a DENY that is
 * in force before and after, so it reads again. See penstock.bpf.policy_table.
 *
 * Not static: the verifier then checks it once, not at each of its calls.
 */
__attribute__((noinline)) int policy_judge(const struct policy_key *flow)
{
	if (!flow)
		return -REASON_NO_POLICY;
	struct policy_key key = *flow;

	for (int attempt = 0; attempt < POLICY_ATTEMPTS; attempt++) {
		struct policy_default *start = bpf_map_lookup_elem(&policy_defaults, &key.identity);

		if (!start)
			return -REASON_NO_POLICY;
		__u32 revision = start->revision;
		__u32 fallback = key.direction == DIRECTION_EGRESS ? start->egress : start->ingress;
		__u32 seen = policy_seen_for(key);
		struct policy_default *end = bpf_map_lookup_elem(&policy_defaults, &key.identity);

		if (end && end->revision == revision)
			return policy_conclude(seen, fallback);
	}
	return -REASON_POLICY_CHANGING;
}

/* The node reaches its pods whatever policy says: kubelet's probes come from there. */
static __always_inline int judge(__u32 identity, __u32 peer, __u16 port, __u8 protocol,
				 __u8 direction)
{
	if (direction == DIRECTION_INGRESS && peer == IDENTITY_HOST)
		return VERDICT_ALLOW;
	struct policy_key flow = {
		.identity = identity,
		.peer = peer,
		.port = port,
		.protocol = protocol,
		.direction = direction,
	};

	return policy_judge(&flow);
}

#endif
