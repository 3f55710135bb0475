/* SPDX-License-Identifier: Apache-2.0
 *
 * Reading and writing program contexts.
 *
 * Where two branches touch the same field, clang keeps `ctx + offset` in a register and uses that,
 * which the verifier refuses ("dereference of modified ctx ptr"); volatile does not stop it.
 * An access written in assembly cannot be folded.
 */
#ifndef PENSTOCK_CONTEXT_H
#define PENSTOCK_CONTEXT_H

#define CTX_LOAD(ctx, field)                                                                       \
	({                                                                                         \
		__u64 _loaded;                                                                     \
		asm volatile("%0 = *(u32 *)(%1 + %2)"                                              \
			     : "=r"(_loaded)                                                       \
			     : "r"(ctx), "i"(__builtin_offsetof(typeof(*(ctx)), field)));          \
		(__u32) _loaded;                                                                   \
	})

#define CTX_STORE(ctx, field, value)                                                               \
	({                                                                                         \
		__u64 _stored = (__u32)(value);                                                    \
		asm volatile("*(u32 *)(%0 + %1) = %2"                                              \
			     :                                                                     \
			     : "r"(ctx), "i"(__builtin_offsetof(typeof(*(ctx)), field)),           \
			       "r"(_stored)                                                        \
			     : "memory");                                                          \
	})

/* The four words of an IPv6 address in the context. */
#define CTX_LOAD_ADDRESS(ctx, field)                                                               \
	((struct address){.word = {CTX_LOAD(ctx, field[0]), CTX_LOAD(ctx, field[1]),               \
				   CTX_LOAD(ctx, field[2]), CTX_LOAD(ctx, field[3])}})

#endif
