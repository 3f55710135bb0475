/* SPDX-License-Identifier: Apache-2.0
 *
 * Services: choice of a backend by weight, and whether policy leaves any.
 */
#ifndef PENSTOCK_SERVICES_H
#define PENSTOCK_SERVICES_H

#define PICK_ATTEMPTS 4
#define SEARCH_STEPS 13 /* halves MAX_BACKENDS down to one, and one to spare */

struct service_choice {
	struct service_key key;
	struct endpoint backend; /* filled in */
};

static __always_inline struct backend *backend_at(const struct service *service, __u32 index)
{
	struct backend_key key = {
		.service = service->id,
		.generation = service->generation,
		.index = index,
	};

	return bpf_map_lookup_elem(&backends, &key);
}

/* Return the index of the first backend whose cumulative weight is above *point*, or -1 if the
 * generation went away meanwhile. A backend of weight 0 is never the first.
 */
static __always_inline int backend_search(const struct service *service, __u32 point)
{
	__u32 low = 0, high = service->count - 1;

	for (int step = 0; step < SEARCH_STEPS && low < high; step++) {
		__u32 middle = (low + high) / 2;
		struct backend *backend = backend_at(service, middle);

		if (!backend)
			return -1;
		if (backend->cumulative_weight > point)
			high = middle;
		else
			low = middle + 1;
	}
	return low;
}

/* Return what a pod reaches at the frontend of *key*, and let *key* name it: what there is for its
 * namespace, or else for all. *pod* is 0 for who is none.
 */
static __always_inline struct service *service_find(struct service_key *key, const struct pod *pod)
{
	if (pod && pod->namespace) {
		key->namespace = pod->namespace;
		struct service *found = bpf_map_lookup_elem(&services, key);

		if (found)
			return found;
		key->namespace = 0;
	}
	return bpf_map_lookup_elem(&services, key);
}

/* Return true and fill in the backend, or false if there is none to choose.
 *
 * The key is copied: before Linux 6.2 no map takes one from the memory that a function which is
 * checked by itself is given.
 */
__attribute__((noinline)) int service_pick(struct service_choice *choice)
{
	if (!choice)
		return false;
	struct service_key key = choice->key;

	for (int attempt = 0; attempt < PICK_ATTEMPTS; attempt++) {
		struct service *found = bpf_map_lookup_elem(&services, &key);

		if (!found || !found->count || !found->total_weight)
			return false;
		struct service service = *found;
		/* the upper half of the product is even over the range, a remainder is not */
		__u32 point = ((__u64)bpf_get_prandom_u32() * service.total_weight) >> 32;
		int index = backend_search(&service, point);
		struct backend *backend = index < 0 ? 0 : backend_at(&service, index);

		if (!backend)
			continue; /* user space switched the generation: the service names the new one */
		choice->backend = backend->endpoint;
		return true;
	}
	return false;
}

struct service_client {
	struct service service;
	__u32 identity;
	__u32 protocol;
	struct address ipv4, ipv6; /* its own addresses */
};

static __always_inline bool backend_is_denied(const struct service_client *client,
					      const struct endpoint *backend)
{
	if (same_address(&backend->address, &client->ipv4) ||
	    same_address(&backend->address, &client->ipv6))
		return false;
	__u32 server = identity_of(&backend->address);

	if (judge(client->identity, server, backend->port, client->protocol, DIRECTION_EGRESS) < 0)
		return true;
	int verdict = judge(server, client->identity, backend->port, client->protocol,
			    DIRECTION_INGRESS);

	/* a server of another node may have its policy only there, which then judges */
	return verdict < 0 && verdict != -REASON_NO_POLICY;
}

/* Return true if policy denies all backends, so that the client need not ask the proxy.
 * With no backend at all, or more than are looked at, the proxy answers.
 */
__attribute__((noinline)) int service_is_closed(const struct service_client *client)
{
	if (!client)
		return true;
	__u32 total = client->service.count;

	if (!total || total > MAX_BACKENDS_JUDGED)
		return false;
	for (__u32 index = 0; index < MAX_BACKENDS_JUDGED && index < total; index++) {
		struct backend *backend = backend_at(&client->service, index);

		if (!backend)
			return false; /* generation switched: let the proxy decide */
		struct endpoint endpoint = backend->endpoint;

		if (!backend_is_denied(client, &endpoint))
			return false;
	}
	return true;
}

#endif
