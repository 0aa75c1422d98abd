; Every TCP retransmission of the host: tcp:tcp_retransmit_skb (Linux 4.15 and later).
; Licence: dual MIT/GPL. See README.md for the dialect and the contract.
;
; Registers                            Stack
;   r6  the context                      r10-232 … r10-85   the event, see event.inc
;   r7  the socket; then in output       r10-4   … r10-1    count_here: the key of the map lost
;       the output's error               r10-240 … r10-233  a value in between
;   r8  the socket, as a tcp_sock
;   r0 to r5  scratch

.program    socket_snoop_rt
.tracepoint tcp:tcp_retransmit_skb
.license    "Dual MIT/GPL"
.ways       tracefs btf

.if tracefs
.field state            s32 optional        ; since about Linux 4.20
.field family           u16 optional        ; since Linux 5.12
.field err              s32 optional        ; since Linux 6.17, which also reports retransmissions that failed
.field sock.__sk_common.skc_state  u8 optional     ; instead of the state
.else
.field socket = arg0.ptr  u64               ; const struct sock *sk
.field err = arg2.int     s32 u64 optional  ; int err, since Linux 6.17; arg1 is the skb
.field sock.__sk_common.skc_state  u8
.endif
.field tcp_sock.total_retrans  u32 optional

.include "event.inc"
.include "socket.inc"
.include "owner.inc"
.include "guard.inc"
.include "short.inc"

    begin
.if btf
    r7 = *(u64 *)(r6 + socket)
.endif
    socket_ends

.if tracefs
    r2 = 0
.ifdef state
    r2 = *(u32 *)(r6 + state)
.endif
    *(u8 *)(r10 + EV_NEWSTATE) = r2
.ifdef state
.else
    peek(r10 + EV_NEWSTATE, r7 + sock.__sk_common.skc_state, 1)
.endif
    r1 = 0
    r2 = 0
    r3 = 0
.else
    r1 = *(u8 *)(r7 + sock.__sk_common.skc_state)
    *(u8 *)(r10 + EV_NEWSTATE) = r1
    r1 = 0
    r3 = FLAG_FAMILY
.endif
.ifdef err
    r1 = *(u32 *)(r6 + err)
    r3 |= FLAG_ERR
.endif
.if tracefs
.ifdef family
    r2 = *(u16 *)(r6 + family)
    r3 |= FLAG_FAMILY
.endif
.endif
    *(u32 *)(r10 + EV_ERR) = r1
.if tracefs
    *(u16 *)(r10 + EV_FAMILY) = r2
.endif
    *(u8 *)(r10 + EV_FLAGS) = r3
    *(u32 *)(r10 + EV_TOTAL) = 0
    peek(r10 + EV_TOTAL, r8 + tcp_sock.total_retrans, 4)
    *(u8 *)(r10 + EV_KIND) = KIND_RETRANS

    short_event
out:
    pass
