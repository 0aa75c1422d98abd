; The first read from a socket, as rcv_space.s tells it: a BPF_PROG_TYPE_TRACING program (BPF_TRACE_RAW_TP), which is
; cheaper at a read than one on tracefs' tracepoint, and so taken wherever it can be had.
; Licence: dual MIT/GPL. See README.md for the dialect and the contract.
;
; Registers                            Stack
;   r6  the context: the arguments       r10-224 … r10-85   the event, see event.inc
;   r7  struct sock; then in send.inc    r10-4   … r10-1    send.inc, keep.inc: the key of the map lost
;       the output's error               r10-232 … r10-225  a value in between
;   r8  struct tcp_sock, the same
;   r9  what is remembered of it
;   r0 to r5  scratch

.program    socket_snoop_rd
.tracepoint tcp:tcp_rcv_space_adjust
.license    "Dual MIT/GPL"

.field arg0.ptr  u64                        ; struct sock *sk
.field tcp_sock.rcv_nxt         u32 optional
.field tcp_sock.bytes_received  u64 optional
.field tcp_sock.rcvq_space.seq  u32 optional

.include "event.inc"
.include "owners.inc"

.equ CURRENT_TASK 158                       ; bpf_get_current_task_btf (Linux 5.11)

    r6 = r1
    r7 = *(u64 *)(r6 + arg0.ptr)
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
    *(u64 *)(r10 + EV_SOCKET) = r7

.include "reader.inc"
.include "socket_btf.inc"

    *(u16 *)(r10 + EV_FLAGS) = FLAG_FAMILY

.include "accepted.inc"
    *(u32 *)(r10 + EV_SKERR) = 0
    r5 = EV_SIZE
.include "send.inc"
stranger:
.include "pass.inc"
