; The first read from a socket, as rcv_space.s tells it, where tracefs doesn't; see state_btf.s.
; Licence: dual MIT/GPL. See README.md for the dialect and the contract.
;
; Registers                            Stack
;   r6  the context: the arguments       r10-224 … r10-85   the event, see event.inc
;   r7  struct sock; then in send.inc    r10-4   … r10-1    send.inc, keep.inc: the key of the map lost
;       the output's error               r10-232 … r10-225  a value in between
;   r8  struct tcp_sock, the same
;   r9  what is remembered of it
;   r0 to r5  scratch

.program    socket_snoop_rd
.tracepoint tcp:tcp_rcv_space_adjust
.license    "Dual MIT/GPL"

.field arg0.ptr  u64                        ; struct sock *sk

.include "event.inc"
.include "owners.inc"

.equ CURRENT_TASK 158                       ; bpf_get_current_task_btf (Linux 5.11)

    r6 = r1
    r7 = *(u64 *)(r6 + arg0.ptr)
    if r7 == 0 goto out
    *(u64 *)(r10 + EV_SOCKET) = r7

.include "reader.inc"
.include "socket_btf.inc"

    *(u16 *)(r10 + EV_FLAGS) = FLAG_FAMILY

.include "accepted.inc"
    *(u32 *)(r10 + EV_SKERR) = 0
    r5 = EV_SIZE
.include "send.inc"
stranger:
.include "pass.inc"
