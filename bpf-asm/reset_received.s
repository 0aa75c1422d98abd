; Every reset that ends a connection of the host: tcp:tcp_receive_reset (Linux 4.15 and later).
; Licence: dual MIT/GPL. See README.md for the dialect and the contract.
;
; Registers                            Stack
;   r6  the context                      r10-224 … r10-85   the event, see event.inc
;   r7  the socket; then in output       r10-4   … r10-1    count_here: the key of the map lost
;       the output's error               r10-232 … r10-225  a value in between
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
.include "socket.inc"
.include "owner.inc"
.include "short.inc"

    begin
    r7 = *(u64 *)(r6 + socket)
    if r7 == 0 goto out
    socket_alone

    *(u32 *)(r10 + EV_REASON) = 0
    *(u16 *)(r10 + EV_FLAGS) = 0
    *(u8 *)(r10 + EV_KIND) = KIND_RST_RCVD

    short_event
out:
    pass
