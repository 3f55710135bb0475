// SPDX-License-Identifier: Apache-2.0
/*
 * bind() of pods: the ports of the in-pod listeners are Envoy's, also while it is away.
 *
 * A pod that held one would keep the next Envoy from listening there; and a thread of Envoy that
 * could not bind in another network namespace has been seen to stay in it.
 */
#ifndef PENSTOCK_BIND_H
#define PENSTOCK_BIND_H

static __always_inline int bind_decide(struct bpf_sock_addr *ctx)
{
	__u32 zero = 0;
	struct config *settings = bpf_map_lookup_elem(&config, &zero);

	if (protocol_of(ctx) != IPPROTO_TCP ||
	    !is_proxy_port(bpf_ntohs((__u16)CTX_LOAD(ctx, user_port))))
		return PROCEED;
	if (settings && (settings->host_netns_cookie == bpf_get_netns_cookie(ctx) ||
			 is_envoy(settings)))
		return PROCEED;
	bpf_set_retval(-EADDRINUSE);
	return REFUSE;
}

SEC("cgroup/bind4")
int pod_bind4(struct bpf_sock_addr *ctx)
{
	return bind_decide(ctx);
}

SEC("cgroup/bind6")
int pod_bind6(struct bpf_sock_addr *ctx)
{
	return bind_decide(ctx);
}

#endif
