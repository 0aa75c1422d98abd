; Every TCP retransmission of the host: tcp:tcp_retransmit_skb (Linux 4.15 and later).
; Licence: dual MIT/GPL. See README.md for the dialect and the contract.
;
; Registers                            Stack
;   r6  the context: the record          r10-88 … r10-5  the event, see event.inc
;   r7  the flags; then in send.inc      r10-4  … r10-1  send.inc: the key of the map lost
;       the output's error
;   r0 to r5  scratch

.program    socket_snoop_rt
.tracepoint tcp:tcp_retransmit_skb
.license    "Dual MIT/GPL"

.field skaddr    u64
.field state     s32 optional               ; since about Linux 4.20
.field sport     u16
.field dport     u16
.field family    u16 optional               ; since Linux 5.12
.field saddr_v6  u8[16]
.field daddr_v6  u8[16]
.field err       s32 optional               ; since Linux 6.17, which also reports retransmissions that failed

.include "event.inc"

    r6 = r1

.include "socket.inc"

    *(u8 *)(r10 + EV_KIND) = KIND_RETRANS
    *(u8 *)(r10 + EV_OLDSTATE) = 0
.ifdef state
    r1 = *(u32 *)(r6 + state)
    *(u8 *)(r10 + EV_NEWSTATE) = r1
.else
    *(u8 *)(r10 + EV_NEWSTATE) = 0
.endif

    r7 = 0
.ifdef err
    r1 = *(u32 *)(r6 + err)
    *(u32 *)(r10 + EV_ERR) = r1
    r7 |= FLAG_ERR
.else
    *(u32 *)(r10 + EV_ERR) = 0
.endif
.ifdef family
    r1 = *(u16 *)(r6 + family)
    *(u16 *)(r10 + EV_FAMILY) = r1
    r7 |= FLAG_FAMILY
.else
    *(u16 *)(r10 + EV_FAMILY) = 0
.endif
    *(u16 *)(r10 + EV_FLAGS) = r7

.include "send.inc"
