; A record of 112 bytes by perf ring for each state change, and nothing remembered.
.program    floor_b
.tracepoint sock:inet_sock_set_state
.license    "Dual MIT/GPL"

.include "record.inc"
.map events     ; perf event array: the rings, by CPU

    r6 = r1
    take_record
    take_task
    *(u64 *)(r10 + RE_OWNER) = 0
    *(u64 *)(r10 + RE_SINCE) = 0
    send_record
