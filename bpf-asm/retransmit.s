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
.field tcp_sock.inet_conn.icsk_ca_state.bits  u8 optional
.field tcp_sock.inet_conn.icsk_pending        u8 optional

; The kernel's numbers (v6.12 include/uapi/linux/tcp.h, enum tcp_ca_state, and include/net/inet_connection_sock.h).
.equ CA_STATE       7                   ; the bits of it
.equ CA_RECOVERY    3                   ; TCP_CA_Recovery
.equ CA_LOSS        4                   ; TCP_CA_Loss
.equ LOSS_PROBE     5                   ; ICSK_TIME_LOSS_PROBE

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

    ; What made the kernel send it. The timer of retransmissions is no more pending when it has run out
    ; (v6.12 net/ipv4/tcp_timer.c, tcp_write_timer_handler), that of the tail loss probe still is
    ; (tcp_output.c, tcp_send_loss_probe). By then it may be pending in Recovery, too: what enters that sends at
    ; once (tcp_input.c, tcp_cwnd_reduction), which sets another timer. In Loss what is sent while a timer is
    ; pending follows an earlier timeout, and is not told.
.ifdef tcp_sock.inet_conn.icsk_ca_state.bits
.ifdef tcp_sock.inet_conn.icsk_pending
    peek(r10 + TMP, r8 + tcp_sock.inet_conn.icsk_ca_state.bits, 1)
    peek(r10 + TMP + 1, r8 + tcp_sock.inet_conn.icsk_pending, 1)
    r1 = *(u8 *)(r10 + TMP)
    r1 &= CA_STATE
    r2 = *(u8 *)(r10 + TMP + 1)
    r3 = *(u8 *)(r10 + EV_FLAGS)
    if r1 == CA_RECOVERY goto fast
    if r2 == LOSS_PROBE goto probe
    if r2 != 0 goto told
    if r1 != CA_LOSS goto told
    r3 |= FLAG_TIMER
    goto told
probe:
    if r1 == CA_LOSS goto told
    r3 |= FLAG_TIMER
fast:
    r3 |= FLAG_LOST
told:
    *(u8 *)(r10 + EV_FLAGS) = r3
.endif
.endif

    short_event
out:
    pass
