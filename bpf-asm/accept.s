; Every accepted connection, in the context of who accepts it: the return of inet_csk_accept() (a BPF_PROG_TYPE_TRACING
; program, BPF_TRACE_FEXIT: Linux 5.5 and later with BTF and function tracing; not on every host that loads the others).
; Licence: dual MIT/GPL. See README.md for the dialect and the contract.
;
; Registers                            Stack
;   r6  the context: the arguments,      r10-224 … r10-85   the event, see event.inc
;   r7  struct sock; then in renew.inc   r10-4   … r10-1    send.inc, keep.inc: the key of the map lost
;       the listener, in send.inc        r10-232 … r10-225  a value in between
;       the output's error
;   r8  struct tcp_sock, the same
;   r9  what is remembered of it
;   r0 to r5  scratch

.program    socket_snoop_ac
.tracepoint fexit:inet_csk_accept
.license    "Dual MIT/GPL"

.field arg0.ptr                     u64     ; struct sock *: the listener
.field ret.ptr                      u64     ; struct sock *
.field sock.__sk_common.skc_state   u8

.include "event.inc"
.include "owners.inc"

.equ CURRENT_TASK 158                       ; bpf_get_current_task_btf (Linux 5.11)

    r6 = r1
    r7 = *(u64 *)(r6 + ret.ptr)
    if r7 == 0 goto out
    r1 = *(u8 *)(r7 + sock.__sk_common.skc_state)
    if r1 == CLOSE goto out                 ; it ended in the queue: nothing would forget it

.include "socket_btf.inc"

    *(u16 *)(r10 + EV_FLAGS) = FLAG_FAMILY
    r1 = map owners ll
    r2 = r10
    r2 += EV_SOCKET
    call bpf_map_lookup_elem
    r9 = r0

.include "accepted.inc"
.include "renew.inc"
    *(u32 *)(r10 + EV_SKERR) = 0
    r5 = EV_SIZE
.include "send.inc"
stranger:
out:
    r0 = 0                                  ; nothing else is taken (v6.12 kernel/bpf/verifier.c, check_return_code)
    exit
