; Every TCP socket that the kernel destroys: tcp:tcp_destroy_sock (Linux 4.16 and later). Its cookie is what the kernel's
; own message about it is known by (sock_diag), which has the counters that no program can read without BTF; loaded only there.
; Licence: dual MIT/GPL. See README.md for the dialect and the contract.
;
; Registers                            Stack
;   r6  the context                      r10-232 … r10-189  the event, see event.inc
;   r7  the socket; then in output       r10-4   … r10-1    count_here: the key of the map lost
;       the output's error
;   r0 to r5  scratch

.program    socket_snoop_ds
.tracepoint tcp:tcp_destroy_sock
.license    "Dual MIT/GPL"
.ways       tracefs

.field skaddr       u64
.field sock_cookie  u64

.include "event.inc"

    begin
    r7 = *(u64 *)(r6 + skaddr)
    r1 = *(u64 *)(r6 + sock_cookie)
    *(u64 *)(r10 + EV_OWNER) = r1
    *(u32 *)(r10 + EV_OWNER + 8) = 0
    *(u32 *)(r10 + EV_ERR) = 0
    *(u32 *)(r10 + EV_TOTAL) = 0
    *(u8 *)(r10 + EV_FLAGS) = 0
    *(u8 *)(r10 + EV_KIND) = KIND_DESTROY

    head_alone
    r5 = EV_GONE_SIZE
    output
out:
    pass
