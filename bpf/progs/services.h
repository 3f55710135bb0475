/* SPDX-License-Identifier: Apache-2.0
 *
 * Services: choice of a backend by weight, and whether policy leaves any.
 */
#ifndef PENSTOCK_SERVICES_H
#define PENSTOCK_SERVICES_H

#define PICK_ATTEMPTS 4
#define SEARCH_STEPS 13 /* halves MAX_BACKENDS down to one, and one to spare */

#define NS_PER_SECOND 1000000000ULL

struct service_choice {
	struct service_key key;
	__u64 netns_cookie;      /* of who asks */
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

static __always_inline bool goes_before(const struct endpoint *one, const struct endpoint *other)
{
	for (int word = 0; word < 4; word++) {
		__u32 left = bpf_ntohl(one->address.word[word]);
		__u32 right = bpf_ntohl(other->address.word[word]);

		if (left != right)
			return left < right;
	}
	return one->port < other->port;
}

/* Return whether a backend of the service is at *endpoint* and has a share. They are in the order of
 * their endpoints.
 */
static __noinline int backend_is_there(const struct service *service,
				       const struct endpoint *endpoint)
{
	if (!service || !endpoint)
		return false;
	__u32 low = 0, high = service->count, before = 0;

	for (int step = 0; step < SEARCH_STEPS && low < high; step++) {
		__u32 middle = (low + high) / 2;
		struct backend *backend = backend_at(service, middle);

		if (!backend)
			return false;
		if (goes_before(&backend->endpoint, endpoint)) {
			low = middle + 1;
			before = backend->cumulative_weight;
		} else {
			high = middle;
		}
	}
	struct backend *found = backend_at(service, low);

	return found && found->cumulative_weight > before &&
	       same_address(&found->endpoint.address, &endpoint->address) &&
	       found->endpoint.port == endpoint->port;
}

/* Lead a client to where it was led last, if that is still a backend: return whether it is. */
static __always_inline bool stay_found(const struct service *service,
				       struct service_choice *choice)
{
	__u64 seconds = service->flags >> SERVICE_STAY_SHIFT;
	struct stay_key key = {.netns_cookie = choice->netns_cookie, .service = service->id};
	struct stay *stay = seconds ? bpf_map_lookup_elem(&stays, &key) : 0;
	__u64 now = bpf_ktime_get_ns();

	/* another processor may have noted a time after *now*, which is no reason to leave */
	if (!stay || now >= stay->last_seen_ns + seconds * NS_PER_SECOND)
		return false;
	choice->backend = stay->backend; /* first: the entry may be another client's meanwhile */
	if (!backend_is_there(service, &choice->backend))
		return false;
	stay->last_seen_ns = now;
	return true;
}

/* Note where a client is led that is to stay there. Without memory it is led anywhere. A function of
 * its own: frames of callers have 512 bytes together, and kernels before 6.13 count all of them.
 */
static __noinline int stay_begins(__u32 service, const struct service_choice *choice)
{
	if (!choice)
		return 0;
	struct stay_key key = {.netns_cookie = choice->netns_cookie, .service = service};
	struct stay stay = {.last_seen_ns = bpf_ktime_get_ns(), .backend = choice->backend};

	return bpf_map_update_elem(&stays, &key, &stay, BPF_ANY);
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

		if (stay_found(&service, choice))
			return true;
		/* the upper half of the product is even over the range, a remainder is not */
		__u32 point = ((__u64)bpf_get_prandom_u32() * service.total_weight) >> 32;
		int index = backend_search(&service, point);
		struct backend *backend = index < 0 ? 0 : backend_at(&service, index);

		if (!backend)
			continue; /* user space switched the generation: the service names the new one */
		choice->backend = backend->endpoint;
		if (service.flags >> SERVICE_STAY_SHIFT)
			stay_begins(service.id, choice);
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
