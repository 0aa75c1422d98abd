; Every TCP state change of the host, as state.s tells it, where tracefs doesn't: a BPF_PROG_TYPE_TRACING program
; (BPF_TRACE_RAW_TP) on the same tracepoint, reading the kernel's structures by BTF (Linux 5.9 and later).
; Licence: dual MIT/GPL. See README.md for the dialect and the contract.
;
; Registers                            Stack
;   r6  the context: the arguments,      r10-224 … r10-5    the event, see event.inc
;       8 bytes each                     r10-4   … r10-1    send.inc, keep.inc: the key of the map lost
;   r7  struct sock; then in send.inc    r10-232 … r10-225  owner.inc: a value in between
;       the output's error               r10-264 … r10-233  owner.inc: the key of the map listeners
;   r8  struct tcp_sock, the same
;   r9  owner.inc: what is remembered
;   r0 to r5  scratch

.program    socket_snoop_st
.tracepoint sock:inet_sock_set_state
.license    "Dual MIT/GPL"

.field arg0.ptr  u64                        ; const struct sock *sk
.field arg1.int  u64                        ; const int oldstate
.field arg2.int  u64                        ; const int newstate

.include "event.inc"

.equ CURRENT_TASK 158                       ; bpf_get_current_task_btf (Linux 5.11)

    r6 = r1
    r7 = *(u64 *)(r6 + arg0.ptr)

.include "socket_btf.inc"

    r1 = *(u64 *)(r6 + arg1.int)
    *(u8 *)(r10 + EV_OLDSTATE) = r1
    r1 = *(u64 *)(r6 + arg2.int)
    *(u8 *)(r10 + EV_NEWSTATE) = r1

.include "change.inc"
