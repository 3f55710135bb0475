/* SPDX-License-Identifier: Apache-2.0
 *
 * Counters and events.
 */
#ifndef PENSTOCK_EVENTS_H
#define PENSTOCK_EVENTS_H

static __always_inline void count(__u32 counter)
{
	__u64 *value = bpf_map_lookup_elem(&counters, &counter);

	if (value)
		(*value)++;
}

static __always_inline bool redirections_are_events(void)
{
	__u32 zero = 0;
	struct config *settings = bpf_map_lookup_elem(&config, &zero);

	return settings && (settings->flags & CONFIG_EVENTS_REDIRECTED);
}

/* Only for programs that run in the calling process, never for packets. */
static __always_inline void event_process(struct event *event)
{
	event->pid = bpf_get_current_pid_tgid() >> 32;
	bpf_get_current_comm(event->comm, sizeof(event->comm));
}

/* A full buffer only counts: a verdict never waits for its reader. */
static __always_inline void event_send(struct event *event)
{
	event->timestamp_ns = bpf_ktime_get_ns();
	if (bpf_ringbuf_output(&events, event, sizeof(*event), 0))
		count(COUNTER_EVENTS_LOST);
}

#endif
