; Every TCP retransmission of the host, as retransmit.s tells it, where tracefs doesn't; see state_btf.s.
; Licence: dual MIT/GPL. See README.md for the dialect and the contract.
;
; Registers                            Stack
;   r6  the context: the arguments,      r10-224 … r10-85   the event, see event.inc
;       8 bytes each                     r10-4   … r10-1    send.inc: the key of the map lost
;   r7  struct sock; then in send.inc    r10-232 … r10-225  netns.inc: a value in between
;       the output's error
;   r8  struct tcp_sock, the same
;   r0 to r5  scratch

.program    socket_snoop_rt
.tracepoint tcp:tcp_retransmit_skb
.license    "Dual MIT/GPL"

.field arg0.ptr  u64                        ; const struct sock *sk
.field arg2.int  u64 optional               ; int err, since Linux 6.17; arg1 is the skb
.field sock.__sk_common.skc_state  u8
.field tcp_sock.total_retrans  u32 optional

.include "event.inc"

.equ CURRENT_TASK 158                       ; bpf_get_current_task_btf (Linux 5.11)

    r6 = r1
    r7 = *(u64 *)(r6 + arg0.ptr)

.include "socket_btf.inc"

    r1 = *(u8 *)(r7 + sock.__sk_common.skc_state)
    *(u8 *)(r10 + EV_NEWSTATE) = r1
    r1 = 0
    r3 = FLAG_FAMILY
.ifdef arg2.int
    r1 = *(u64 *)(r6 + arg2.int)
    r3 |= FLAG_ERR
.endif
    *(u32 *)(r10 + EV_ERR) = r1
    *(u16 *)(r10 + EV_FLAGS) = r3
    *(u32 *)(r10 + EV_REASON) = 0
    *(u32 *)(r10 + EV_TOTAL) = 0
    peek(r10 + EV_TOTAL, r8 + tcp_sock.total_retrans, 4)
    *(u8 *)(r10 + EV_KIND) = KIND_RETRANS

.include "short.inc"
