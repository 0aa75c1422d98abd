; As e.s, but what belongs to a socket is sent at its first event only; after that 24 bytes: the socket, its states, and the
; task on the CPU. (Its time is left to whoever wants it: a sample can carry it.)
.program    floor_k
.tracepoint sock:inet_sock_set_state
.license    "Dual MIT/GPL"

.include "record.inc"
.include "owners.inc"
.map events     ; perf event array: the rings, by CPU

.struct SH -24
.at   0  u64     SH_SOCKET
.at   8  u64     SH_STATES          ; RE_OLD and RE_NEW
.at  16  u64     SH_TASK
.size SH_SIZE 24
.ends

    r6 = r1
    r1 = *(u64 *)(r6 + RECORD)
    *(u64 *)(r10 + RE_SOCKET) = r1
    find_owner
    if r7 == 0 goto new

    r1 = *(u64 *)(r10 + RE_SOCKET)
    *(u64 *)(r10 + SH_SOCKET) = r1
    r1 = *(u64 *)(r6 + RECORD + 8)
    *(u64 *)(r10 + SH_STATES) = r1
    call bpf_get_current_pid_tgid
    *(u64 *)(r10 + SH_TASK) = r0
    r1 = r6
    r2 = map events ll
    w3 = BPF_F_CURRENT_CPU
    r4 = r10
    r4 += SH_SOCKET
    r5 = SH_SIZE
    call bpf_perf_event_output
    r1 = *(u32 *)(r10 + SH_STATES + 4)
    if r1 != CLOSE goto out
    forget_owner
out:
    r0 = 1
    exit

new:
    take_record
    take_task
    *(u64 *)(r10 + RE_OWNER) = 0
    *(u64 *)(r10 + RE_SINCE) = 0
    r1 = *(u32 *)(r10 + RE_NEW)
    if r1 == CLOSE goto send
    remember_owner
send:
    send_record
