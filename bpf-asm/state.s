; Every TCP state change of the host: sock:inet_sock_set_state (Linux 4.16 and later).
; Licence: dual MIT/GPL. See README.md for the dialect and the contract.
;
; Registers                            Stack
;   r6  the context: the record          r10-224 … r10-5    the event, see event.inc
;   r7  the socket; then in send.inc     r10-4   … r10-1    send.inc, keep.inc: the key of the map lost
;       the output's error               r10-232 … r10-225  owner.inc: a value in between
;   r8  the socket, as a tcp_sock        r10-264 … r10-233  owner.inc: the key of the map listeners
;   r9  owner.inc: what is remembered
;   r0 to r5  scratch

.program    socket_snoop_st
.tracepoint sock:inet_sock_set_state
.license    "Dual MIT/GPL"

.field skaddr    u64
.field oldstate  s32
.field newstate  s32
.field sport     u16
.field dport     u16
.field family    u16
.field protocol  u16 u8                     ; u8 before Linux 5.6
.field saddr_v6  u8[16]
.field daddr_v6  u8[16]

.include "event.inc"

.equ IPPROTO_TCP  6
.equ CURRENT_TASK 35                        ; bpf_get_current_task

    r6 = r1
.include "ran.inc"
    r1 = *(u16 *)(r6 + protocol)            ; MPTCP, SCTP and DCCP sockets come by here too
    if r1 != IPPROTO_TCP goto out

.include "socket.inc"

    r1 = *(u32 *)(r6 + oldstate)
    *(u8 *)(r10 + EV_OLDSTATE) = r1
    r1 = *(u32 *)(r6 + newstate)
    *(u8 *)(r10 + EV_NEWSTATE) = r1
    r1 = *(u16 *)(r6 + family)
    *(u16 *)(r10 + EV_FAMILY) = r1

.include "change.inc"
