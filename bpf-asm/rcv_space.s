; The first read from a socket whose owner is not known for sure: tcp:tcp_rcv_space_adjust (Linux 4.15 and later), which
; the kernel passes at every read, so that this is loaded on request only (--accept-owner). By BTF
; (BPF_PROG_TYPE_TRACING, BPF_TRACE_RAW_TP) it is cheaper at a read, and so taken wherever it can be had.
; Licence: dual MIT/GPL. See README.md for the dialect and the contract.
;
; Registers                            Stack
;   r6  the context                      r10-232 … r10-85   the event, see event.inc
;   r7  the socket; then in output       r10-4   … r10-1    count_here: the key of the map lost
;       the output's error               r10-240 … r10-233  a value in between
;   r8  the socket, as a tcp_sock
;   r9  what is remembered of it
;   r0 to r5  scratch

.program    socket_snoop_rd
.tracepoint tcp:tcp_rcv_space_adjust
.license    "Dual MIT/GPL"
.ways       tracefs btf

.if tracefs
.field socket = skaddr    u64
.else
.field socket = arg0.ptr  u64               ; struct sock *sk
.field tcp_sock.rcv_nxt         u32 optional
.field tcp_sock.bytes_received  u64 optional
.field tcp_sock.rcvq_space.seq  u32 optional
.endif
.field sock.sk_lock.owned          s32 optional
.field sock.__sk_common.skc_state  u8 optional

.include "event.inc"
.include "socket.inc"
.include "owner.inc"
.include "accepted.inc"

    begin
    r7 = *(u64 *)(r6 + socket)
.if btf
    if r7 == 0 goto out

.ifdef tcp_sock.rcvq_space.seq
.ifdef tcp_sock.bytes_received
.ifdef tcp_sock.rcv_nxt
    ; Nearly all reads end here, at about the cost of an empty program. What the kernel measures of the reader starts at the
    ; first byte, and is moved on when it has read for a while (v6.12 net/ipv4/tcp_input.c, tcp_init_buffer_space,
    ; tcp_rcv_space_adjust): then an earlier read has been seen here.
    r1 = r7
    call bpf_skc_to_tcp_sock
    if r0 == 0 goto out
    r1 = *(u32 *)(r0 + tcp_sock.rcv_nxt)
    r2 = *(u64 *)(r0 + tcp_sock.bytes_received)
    r1 -= r2
    r2 = *(u32 *)(r0 + tcp_sock.rcvq_space.seq)
    r1 -= r2
    r1 <<= 32                               ; numbers of 32 bits
    if r1 != 0 goto out
.endif
.endif
.endif
.endif
    *(u64 *)(r10 + EV_SOCKET) = r7

    ; Only the first read by its owner goes on.
    r1 = map owners ll
    r2 = r10
    r2 += EV_SOCKET
    call bpf_map_lookup_elem
    r9 = r0
    if r9 == 0 goto first
    r1 = *(u8 *)(r9 + OW_HOW)
    if r1 == SOURCE_NONE goto first
    if r1 == SOURCE_LISTENER goto first
    if r1 != SOURCE_TAKEN goto out          ; known well enough: nearly always
first:
    *(u64 *)(r10 + TMP) = 0
    peek(r10 + TMP, r7 + sock.sk_lock.owned, 4)
    peek(r10 + TMP + 4, r7 + sock.__sk_common.skc_state, 1)
.ifdef sock.sk_lock.owned
    ; the kernel's own readers come by in softirq, too
    r1 = *(u32 *)(r10 + TMP)
    if r1 == 0 goto out
.endif
    r1 = *(u8 *)(r10 + TMP + 4)
    if r1 == CLOSE goto out                 ; it has ended with something to read: nothing would forget it

    socket_ends
    family_flag
    accepted_event
    whole_event
    output
stranger:
out:
    pass
