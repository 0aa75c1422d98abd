; Every reset that ends a connection of the host, as reset_received.s tells it, where tracefs doesn't; see state_btf.s.
; Licence: dual MIT/GPL. See README.md for the dialect and the contract.
;
; Registers                            Stack
;   r6  the context: the arguments,      r10-224 … r10-85   the event, see event.inc
;       8 bytes each                     r10-4   … r10-1    send.inc: the key of the map lost
;   r7  struct sock; then in send.inc    r10-232 … r10-225  netns.inc: a value in between
;       the output's error
;   r0 to r5  scratch

.program    socket_snoop_rr
.tracepoint tcp:tcp_receive_reset
.license    "Dual MIT/GPL"

.field arg0.ptr  u64                        ; struct sock *sk

.include "event.inc"

.equ CURRENT_TASK 158                       ; bpf_get_current_task_btf (Linux 5.11)

    r6 = r1
    r7 = *(u64 *)(r6 + arg0.ptr)
    if r7 == 0 goto out

.include "endless.inc"

    *(u32 *)(r10 + EV_REASON) = 0
    *(u16 *)(r10 + EV_FLAGS) = 0
    *(u8 *)(r10 + EV_KIND) = KIND_RST_RCVD

.include "short.inc"
