; The first read from a socket whose owner is not known for sure: tcp:tcp_rcv_space_adjust (Linux 4.15 and later), which
; the kernel passes at every read, so that this is loaded on request only (--accept-owner).
; Licence: dual MIT/GPL. See README.md for the dialect and the contract.
;
; Registers                            Stack
;   r6  the context: the record          r10-224 … r10-85   the event, see event.inc
;   r7  struct sock; then in send.inc    r10-4   … r10-1    send.inc, keep.inc: the key of the map lost
;       the output's error               r10-232 … r10-225  a value in between
;   r8  struct tcp_sock, the same
;   r9  what is remembered of it
;   r0 to r5  scratch

.program    socket_snoop_rd
.tracepoint tcp:tcp_rcv_space_adjust
.license    "Dual MIT/GPL"

.field skaddr    u64
.field sport     u16
.field dport     u16
.field family    u16 optional               ; since Linux 5.12
.field saddr_v6  u8[16]
.field daddr_v6  u8[16]

.include "event.inc"
.include "owners.inc"

.equ CURRENT_TASK 35                        ; bpf_get_current_task

    r6 = r1
.include "ran.inc"
    r7 = *(u64 *)(r6 + skaddr)
    *(u64 *)(r10 + EV_SOCKET) = r7

.include "reader.inc"
.include "socket.inc"

.include "family.inc"

.include "accepted.inc"
    *(u32 *)(r10 + EV_SKERR) = 0
    r5 = EV_SIZE
.include "send.inc"
stranger:
.include "pass.inc"
