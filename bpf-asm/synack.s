; Every retransmission of a SYN+ACK: tcp:tcp_retransmit_synack (Linux 4.16 and later). The connection has no socket yet:
; the event's socket is the listener, its ends are the connection's.
; Licence: dual MIT/GPL. See README.md for the dialect and the contract.
;
; Registers                            Stack
;   r6  the context                      r10-232 … r10-85   the event, see event.inc
;   r7  the socket; then in output       r10-4   … r10-1    count_here: the key of the map lost
;       the output's error               r10-240 … r10-233  a value in between
;   r8  the socket; by BTF struct request_sock
;   r0 to r5  scratch

.program    socket_snoop_sa
.tracepoint tcp:tcp_retransmit_synack
.license    "Dual MIT/GPL"
.ways       tracefs btf

.if btf
.field socket  = arg0.ptr  u64              ; const struct sock *sk: the listener
.field request = arg1.ptr  u64              ; const struct request_sock *req
.field request_sock.__req_common.skc_family       u16
.field request_sock.__req_common.skc_num          u16             ; host order
.field request_sock.__req_common.skc_dport        u16
.field request_sock.__req_common.skc_rcv_saddr    u32
.field request_sock.__req_common.skc_daddr        u32
.field request_sock.__req_common.skc_v6_rcv_saddr u8[16] optional ; none without CONFIG_IPV6
.field request_sock.__req_common.skc_v6_daddr     u8[16] optional ; likewise
.endif

.include "event.inc"
.include "socket.inc"
.include "owner.inc"
.include "guard.inc"
.include "short.inc"

    begin
.if tracefs
    socket_ends
.else
    r7 = *(u64 *)(r6 + socket)
    if r7 == 0 goto out
    r8 = *(u64 *)(r6 + request)
    if r8 == 0 goto out
    *(u64 *)(r10 + EV_SOCKET) = r7

    ; v6.12 include/net/inet_sock.h, struct inet_request_sock: ir_num, ir_rmt_port and the rest are these
    r1 = *(u16 *)(r8 + request_sock.__req_common.skc_num)
    *(u16 *)(r10 + EV_LOCAL_PORT) = r1
    r1 = *(u16 *)(r8 + request_sock.__req_common.skc_dport)
    r1 = be16 r1
    *(u16 *)(r10 + EV_PEER_PORT) = r1
    r2 = *(u16 *)(r8 + request_sock.__req_common.skc_family)
    *(u16 *)(r10 + EV_FAMILY) = r2
.ifdef request_sock.__req_common.skc_v6_daddr
.ifdef request_sock.__req_common.skc_v6_rcv_saddr
    if r2 != AF_INET6 goto v4
    memcpy(r10 + EV_LOCAL, r8 + request_sock.__req_common.skc_v6_rcv_saddr, 16) via r1
    memcpy(r10 + EV_PEER, r8 + request_sock.__req_common.skc_v6_daddr, 16) via r1
    goto addressed
v4:
.endif
.endif
    *(u64 *)(r10 + EV_LOCAL) = MAPPED_HIGH
    *(u32 *)(r10 + EV_LOCAL + 8) = MAPPED_LOW
    r1 = *(u32 *)(r8 + request_sock.__req_common.skc_rcv_saddr)
    *(u32 *)(r10 + EV_LOCAL + 12) = r1
    *(u64 *)(r10 + EV_PEER) = MAPPED_HIGH
    *(u32 *)(r10 + EV_PEER + 8) = MAPPED_LOW
    r1 = *(u32 *)(r8 + request_sock.__req_common.skc_daddr)
    *(u32 *)(r10 + EV_PEER + 12) = r1
addressed:
.endif

    family_flag
    *(u32 *)(r10 + EV_ERR) = 0
    *(u32 *)(r10 + EV_TOTAL) = 0
    *(u8 *)(r10 + EV_KIND) = KIND_SYNACK
    *(u8 *)(r10 + EV_NEWSTATE) = SYN_RECV

    short_event
out:
    pass
