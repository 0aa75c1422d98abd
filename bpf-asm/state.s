; Every TCP state change of the host: sock:inet_sock_set_state (Linux 4.16 and later).
; Licence: dual MIT/GPL. See README.md for the dialect and the contract.
;
; Registers                            Stack
;   r6  the context: the record          r10-88 … r10-5  the event, see event.inc
;   r7  send.inc: the output's error     r10-4  … r10-1  send.inc: the key of the map lost
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

.equ IPPROTO_TCP 6

    r6 = r1
    r1 = *(u16 *)(r6 + protocol)            ; MPTCP, SCTP and DCCP sockets come by here too
    if r1 != IPPROTO_TCP goto out

.include "socket.inc"

    *(u8 *)(r10 + EV_KIND) = KIND_STATE
    r1 = *(u32 *)(r6 + oldstate)
    *(u8 *)(r10 + EV_OLDSTATE) = r1
    r1 = *(u32 *)(r6 + newstate)
    *(u8 *)(r10 + EV_NEWSTATE) = r1
    *(u32 *)(r10 + EV_ERR) = 0
    r1 = *(u16 *)(r6 + family)
    *(u16 *)(r10 + EV_FAMILY) = r1
    *(u16 *)(r10 + EV_FLAGS) = FLAG_FAMILY

.include "send.inc"
