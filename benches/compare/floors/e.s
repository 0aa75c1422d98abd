; As b.s, and the owner of each socket is remembered from its first event to its last: one lookup an event.
.program    floor_e
.tracepoint sock:inet_sock_set_state
.license    "Dual MIT/GPL"

.include "record.inc"
.include "owners.inc"
.map events     ; perf event array: the rings, by CPU

    r6 = r1
    take_record
    take_task
    find_owner
    if r7 == 0 goto new
    r1 = *(u64 *)(r7 + 0)
    *(u64 *)(r10 + RE_OWNER) = r1
    r2 = *(u64 *)(r7 + 8)
    r3 = r8
    r3 -= r2
    *(u64 *)(r10 + RE_SINCE) = r3
    *(u64 *)(r7 + 8) = r8
    r1 = *(u32 *)(r10 + RE_NEW)
    if r1 != CLOSE goto send
    forget_owner
    goto send
new:
    *(u64 *)(r10 + RE_OWNER) = 0
    *(u64 *)(r10 + RE_SINCE) = 0
    r1 = *(u32 *)(r10 + RE_NEW)
    if r1 == CLOSE goto send
    remember_owner
send:
    send_record
