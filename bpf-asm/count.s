; Every pass through a tracepoint that has one of the other programs, on kernels before 6.7. While bpf(2) works on a map,
; and while another program runs, the kernel passes the programs on perf events by (v6.1 kernel/trace/bpf_trace.c,
; trace_call_bpf, bpf_prog_active; include/linux/bpf.h, bpf_disable_instrumentation), and does not say so. Raw tracepoints
; are not concerned (bpf_trace_run): what is counted here and not as LOST_RAN was lost.
; A BPF_PROG_TYPE_RAW_TRACEPOINT program (Linux 4.17 and later), attached by the names of the tracepoints.
; Licence: dual MIT/GPL. See README.md for the dialect and the contract.
;
; Registers                            Stack
;   r0 to r5  scratch                    r10-4   … r10-1    count_here: the key of the map lost

.program    socket_snoop_ct
.tracepoint raw:every
.license    "Dual MIT/GPL"

.include "lost.inc"

    count_here
    if r0 == 0 goto out
    r1 = 1
    lock *(u64 *)(r0 + LOST_PASSED) += r1
out:
    r0 = 0                                  ; nobody asks
    exit
