; Every reset that the host sends for a socket: tcp:tcp_send_reset (Linux 4.15 and later).
; Licence: dual MIT/GPL. See README.md for the dialect and the contract.
;
; Registers                            Stack
;   r6  the context                      r10-232 … r10-205  the event, see event.inc
;   r7  the socket; then in output       r10-4   … r10-1    count_here: the key of the map lost
;       the output's error
;   r0 to r5  scratch

.program    socket_snoop_rs
.tracepoint tcp:tcp_send_reset
.license    "Dual MIT/GPL"
.ways       tracefs btf

.if tracefs
.field socket = skaddr    u64
.field reason             u32 optional      ; since Linux 6.10
.else
.field socket = arg0.ptr  u64               ; const struct sock *sk
.field reason = arg2.enum u32 u64 optional  ; enum sk_rst_reason reason, since Linux 6.10; arg1 is the skb
.endif

.include "event.inc"
.include "owner.inc"
.include "guard.inc"

    begin
    r7 = *(u64 *)(r6 + socket)
    if r7 == 0 goto out                     ; an answer to a segment that no socket was meant by
    guard_alone
    flush_held_of
    r1 = 0
    r2 = 0
.ifdef reason
    r1 = *(u32 *)(r6 + reason)
    r2 = FLAG_REASON
.endif
    *(u32 *)(r10 + EV_TOTAL) = r1
    *(u8 *)(r10 + EV_FLAGS) = r2
    *(u8 *)(r10 + EV_KIND) = KIND_RST_SENT

    head_alone
    output
out:
    pass
