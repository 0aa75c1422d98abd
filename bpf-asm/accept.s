; Every accepted connection, in the context of who accepts it: the return of inet_csk_accept() (a BPF_PROG_TYPE_TRACING
; program, BPF_TRACE_FEXIT: Linux 5.5 and later with BTF and function tracing; not on every host that loads the others).
; Licence: dual MIT/GPL. See README.md for the dialect and the contract.
;
; Registers                            Stack
;   r6  the context: the arguments,      r10-232 … r10-85   the event, see event.inc
;   r7  struct sock; then the            r10-4   … r10-1    count_here: the key of the map lost
;       listener, in output the          r10-240 … r10-233  a value in between
;       output's error
;   r8  struct tcp_sock, the same
;   r9  what is remembered of it
;   r0 to r5  scratch

.program    socket_snoop_ac
.tracepoint fexit:inet_csk_accept
.license    "Dual MIT/GPL"
.ways       btf

.field listener = arg0.ptr          u64     ; struct sock *
.field child    = ret.ptr           u64     ; struct sock *
.field sock.__sk_common.skc_state   u8
.field tcp_sock.tsorted_sent_queue.next   u64 optional

.include "event.inc"
.include "socket.inc"
.include "owner.inc"
.include "accepted.inc"

    begin
    r7 = *(u64 *)(r6 + child)
    if r7 == 0 goto out
    r1 = *(u8 *)(r7 + sock.__sk_common.skc_state)
    if r1 == CLOSE goto out                 ; it ended in the queue: nothing would forget it

    socket_ends
    family_flag
    r1 = map owners ll
    r2 = r10
    r2 += EV_SOCKET
    call bpf_map_lookup_elem
    r9 = r0
    accepted_event

    ; Who accepts is the listener's owner from now on: where it was opened by another process, or before the start. It is
    ; remembered by the place of the listener's queue, where its children find it, and by its address.
.ifdef tcp_sock.tsorted_sent_queue.next
    r7 = *(u64 *)(r6 + listener)
    if r7 == 0 goto renewed
    r1 = r7
    call bpf_skc_to_tcp_sock
    if r0 == 0 goto renewed
    r8 = r0
    r1 = *(u8 *)(r7 + sock.__sk_common.skc_state)
    if r1 != LISTEN goto renewed            ; it has been closed meanwhile: nothing would forget it
    listener_queue
    call bpf_map_lookup_elem
    if r0 == 0 goto renew
    r1 = *(u32 *)(r0 + OW_TASK + PID)
    r2 = *(u32 *)(r10 + EV_OWNER + OW_TASK + PID)
    if r1 == r2 goto renewed
renew:
    *(u32 *)(r10 + EV_OWNER + OW_SOURCE) = SOURCE_CACHED
    none_held
    listener_queue
    r3 = r10
    r3 += EV_OWNER
    r4 = BPF_ANY
    call bpf_map_update_elem
    r9 = r0
    *(u64 *)(r10 + TMP) = r7
    r1 = map owners ll
    r2 = r10
    r2 += TMP
    r3 = r10
    r3 += EV_OWNER
    r4 = BPF_ANY
    call bpf_map_update_elem
    *(u32 *)(r10 + EV_OWNER + OW_SOURCE) = SOURCE_ACCEPT
    if r9 == 0 goto renewed
    listener_lost
renewed:
.endif

    whole_event
    output
stranger:
out:
    r0 = 0                                  ; nothing else is taken (v6.12 kernel/bpf/verifier.c, check_return_code)
    exit
