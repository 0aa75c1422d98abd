; Every reset that ends a connection of the host: tcp:tcp_receive_reset (Linux 4.15 and later).
; Licence: dual MIT/GPL. See README.md for the dialect and the contract.
;
; Registers                            Stack
;   r6  the context                      r10-232 … r10-205  the event, see event.inc
;   r7  the socket; then in output       r10-4   … r10-1    count_here: the key of the map lost
;       the output's error
;   r0 to r5  scratch

.program    socket_snoop_rr
.tracepoint tcp:tcp_receive_reset
.license    "Dual MIT/GPL"
.ways       tracefs btf

.if tracefs
.field socket = skaddr    u64
.else
.field socket = arg0.ptr  u64               ; struct sock *sk
.endif

.include "event.inc"
.include "owner.inc"
.include "guard.inc"

    begin
    r7 = *(u64 *)(r6 + socket)
    if r7 == 0 goto out
    guard_alone
    flush_held_of
    *(u32 *)(r10 + EV_TOTAL) = 0
    *(u8 *)(r10 + EV_FLAGS) = 0
    *(u8 *)(r10 + EV_KIND) = KIND_RST_RCVD

    head_alone
    output
out:
    pass
