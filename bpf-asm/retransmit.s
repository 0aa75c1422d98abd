; Every TCP retransmission of the host: tcp:tcp_retransmit_skb (Linux 4.15 and later).
; Licence: dual MIT/GPL. See README.md for the dialect and the contract.
;
; Registers                            Stack
;   r6  the context: the record          r10-224 … r10-85   the event, see event.inc
;   r7  the socket; then in send.inc     r10-4   … r10-1    send.inc: the key of the map lost
;       the output's error               r10-232 … r10-225  netns.inc: a value in between
;   r8  the socket
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
.field tcp_sock.total_retrans  u32 optional

.include "event.inc"

.equ CURRENT_TASK 35                        ; bpf_get_current_task

    r6 = r1
.include "ran.inc"

.include "socket.inc"

    r2 = 0
.ifdef state
    r2 = *(u32 *)(r6 + state)
.endif
    *(u8 *)(r10 + EV_NEWSTATE) = r2
    r1 = 0
    r2 = 0
    r3 = 0
.ifdef err
    r1 = *(u32 *)(r6 + err)
    r3 |= FLAG_ERR
.endif
.ifdef family
    r2 = *(u16 *)(r6 + family)
    r3 |= FLAG_FAMILY
.endif
    *(u32 *)(r10 + EV_ERR) = r1
    *(u16 *)(r10 + EV_FAMILY) = r2
    *(u16 *)(r10 + EV_FLAGS) = r3
    *(u32 *)(r10 + EV_REASON) = 0
    *(u32 *)(r10 + EV_TOTAL) = 0
    peek(r10 + EV_TOTAL, r8 + tcp_sock.total_retrans, 4)
    *(u8 *)(r10 + EV_KIND) = KIND_RETRANS

.include "short.inc"
