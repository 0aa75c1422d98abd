; Every retransmission of a SYN+ACK: tcp:tcp_retransmit_synack (Linux 4.16 and later). The connection has no socket yet:
; the event's socket is the listener, its ends are the connection's.
; Licence: dual MIT/GPL. See README.md for the dialect and the contract.
;
; Registers                            Stack
;   r6  the context: the record          r10-224 … r10-85   the event, see event.inc
;   r7  the socket; then in send.inc     r10-4   … r10-1    send.inc: the key of the map lost
;       the output's error               r10-232 … r10-225  netns.inc: a value in between
;   r8  the socket
;   r0 to r5  scratch

.program    socket_snoop_sa
.tracepoint tcp:tcp_retransmit_synack
.license    "Dual MIT/GPL"

.field skaddr    u64
.field sport     u16
.field dport     u16
.field family    u16 optional               ; since Linux 5.12
.field saddr_v6  u8[16]
.field daddr_v6  u8[16]

.include "event.inc"

.equ CURRENT_TASK 35                        ; bpf_get_current_task

    r6 = r1
.include "ran.inc"

.include "socket.inc"

.include "family.inc"
    *(u32 *)(r10 + EV_ERR) = 0
    *(u32 *)(r10 + EV_TOTAL) = 0
    *(u32 *)(r10 + EV_REASON) = 0
    *(u8 *)(r10 + EV_KIND) = KIND_SYNACK
    *(u8 *)(r10 + EV_NEWSTATE) = SYN_RECV

.include "short.inc"
