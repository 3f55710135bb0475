/* SPDX-License-Identifier: Apache-2.0
 *
 * Addresses: one form for IPv4, IPv6 and IPv4 in IPv6 sockets.
 */
#ifndef PENSTOCK_ADDRESS_H
#define PENSTOCK_ADDRESS_H

/* <sys/socket.h> is not for programs. */
#define AF_INET 2
#define AF_INET6 10
#define SOCK_STREAM 1
#define SOCK_RAW 3

static __always_inline struct address mapped_address(__be32 ipv4)
{
	return (struct address){.word = {0, 0, bpf_htonl(0xffff), ipv4}};
}

static __always_inline bool is_mapped(const struct address *address)
{
	return !address->word[0] && !address->word[1] && address->word[2] == bpf_htonl(0xffff);
}

static __always_inline bool same_address(const struct address *one, const struct address *other)
{
	return one->word[3] == other->word[3] && one->word[2] == other->word[2] &&
	       one->word[1] == other->word[1] && one->word[0] == other->word[0];
}

/* Loopback, or "any": connect() to 0.0.0.0 or :: goes to loopback. */
static __always_inline bool is_local(const struct address *address)
{
	if (is_mapped(address))
		return !address->word[3] || (bpf_ntohl(address->word[3]) >> 24) == 127;
	return !address->word[0] && !address->word[1] && !address->word[2] &&
	       bpf_ntohl(address->word[3]) <= 1;
}

static __always_inline bool is_proxy_port(__u16 port)
{
	return port == EGRESS_PORT || port == INGRESS_PORT || port == HBONE_PORT;
}

/* Loopback of the same family as *like*: a socket cannot leave its family. */
static __always_inline struct address loopback_like(const struct address *like)
{
	if (is_mapped(like))
		return mapped_address(bpf_htonl(0x7f000001));
	return (struct address){.word = {0, 0, 0, bpf_htonl(1)}};
}

#endif
