; Every TCP state change of the host: sock:inet_sock_set_state (Linux 4.16 and later).
; Licence: dual MIT/GPL. See README.md for the dialect and the contract, docs/audit.md for a way through it.
;
; By tracefs a BPF_PROG_TYPE_TRACEPOINT program, that reads the tracepoint's record; where tracefs doesn't tell, a
; BPF_PROG_TYPE_TRACING program (BPF_TRACE_RAW_TP) on the same tracepoint, that reads the kernel's structures by BTF (Linux
; 5.9 and later).
;
; Registers                            Stack
;   r6  the context                      r10-232 … r10-5    the event, see event.inc
;   r7  the socket; then in output       r10-4   … r10-1    count_here: the key of the map lost
;       the output's error               r10-240 … r10-233  a value in between
;   r8  the same, as a tcp_sock          r10-272 … r10-241  the key of the map listeners; at a change to CLOSE, the
;   r9  what is remembered of it                            network namespace
;   r0 to r5  scratch

.program    socket_snoop_st
.tracepoint sock:inet_sock_set_state
.license    "Dual MIT/GPL"
.ways       tracefs btf

.if tracefs
.field oldstate  s32
.field newstate  s32
.field family    u16
.field protocol  u16 u8                     ; u8 before Linux 5.6
.else
.field socket   = arg0.ptr  u64             ; const struct sock *sk
.field oldstate = arg1.int  s32 u64         ; const int oldstate
.field newstate = arg2.int  s32 u64         ; const int newstate
.endif

; Members of kernel structures, where BTF tells their places.
.field helper.leaders                     u64 optional   ; see owner.inc
.field task_struct.real_parent            u64 optional
.field sock.sk_lock.owned                 s32 optional
.field sock.sk_err                        s32 optional
.field sock.sk_shutdown                   u8  optional
.field sock.sk_socket                     u64 optional
.field sock.__sk_common.skc_bound_dev_if  s32 optional
.field sock.__sk_common.skc_num           u16 optional   ; host order
.field sock.__sk_common.skc_flags         u64 optional
.field tcp_sock.tsorted_sent_queue.next   u64 optional
.field tcp_sock.segs_out                  u32 optional
.field tcp_sock.segs_in                   u32 optional
.field tcp_sock.bytes_sent                u64 optional
.field tcp_sock.bytes_retrans             u64 optional
.field tcp_sock.bytes_received            u64 optional
.field tcp_sock.srtt_us                   u32 optional
.field tcp_sock.rtt_min.s.v               u32 optional
.field tcp_sock.total_retrans             u32 optional
.field tcp_sock.bytes_acked               u64 optional
.field tcp_sock.snd_una                   u32 optional
.field tcp_sock.snd_nxt                   u32 optional
.field tcp_sock.write_seq                 u32 optional
.field net.ipv4.tcp_death_row.sysctl_max_tw_buckets       s32 optional    ; before Linux 5.18, and from 6.1 on
.field net.ipv4.tcp_death_row.tw_count.counter            s32 optional    ; before
.field net.ipv4.tcp_death_row.tw_refcount.refs.counter    s32 optional    ; from 6.1 on: the namespace is counted, too
.field net.ipv4.tcp_death_row                             u64 optional    ; in between: a pointer
.field inet_timewait_death_row.sysctl_max_tw_buckets      s32 optional
.field inet_timewait_death_row.tw_refcount.refs.counter   s32 optional

.include "event.inc"
.include "socket.inc"
.include "owner.inc"
.include "guard.inc"

.map listeners      ; hash: where a listener listens (LK_…) to its owner, for its children (LI_…)

.equ IPPROTO_TCP    6
.equ ECONNABORTED   103
.equ SHUTDOWN_MASK  3

; Where there is no lock to tell whose doing a change is, the higher three bytes of OW_SOURCE hold the thread in whose context
; softirq ended the handshake, with this; else 0.
.equ IN_SOFTIRQ     0x800000

; The key of the map listeners for what the event says of this end: the map into r1, the key's place into r2. Changes r0 to
; r5.
.macro listener_here
    r1 = *(u16 *)(r10 + EV_LOCAL_PORT)
    *(u16 *)(r10 + LK_PORT) = r1
    r1 = *(u16 *)(r10 + EV_FAMILY)
    *(u16 *)(r10 + LK_FAMILY) = r1
    r1 = *(u64 *)(r10 + EV_LOCAL)
    *(u64 *)(r10 + LK_ADDRESS) = r1
    r1 = *(u64 *)(r10 + EV_LOCAL + 8)
    *(u64 *)(r10 + LK_ADDRESS + 8) = r1
    r1 = *(u32 *)(r10 + EV_OWNER + OW_NETNS)
    *(u32 *)(r10 + LK_NETNS) = r1
    *(u64 *)(r10 + LK_DEVICE) = 0           ; with the 4 bytes behind it
    peek(r10 + LK_DEVICE, r7 + sock.__sk_common.skc_bound_dev_if, 4)
    listener_key
.endm

; The same for the key as it is.
.macro listener_key
    r1 = map listeners ll
    r2 = r10
    r2 += LK_NETNS
.endm

; The ends of the event, and by tracefs its family. Changes r1 and r2.
.macro event_ends
    ends
.if tracefs
    r1 = *(u16 *)(r6 + family)
    *(u16 *)(r10 + EV_FAMILY) = r1
.endif
.endm

; An entry of the map owners costs most where it is made and deleted. So where cards are kept, a few are left for the next
; socket at their address, which nearly always comes soon: no more than CLOSED_MOST on each CPU, by the difference of what was
; left there and what was taken.
.equ CLOSED_MOST    64

; The entry at r9 is of a socket that is closed. Changes r0 to r5.
.macro forget_socket
.ifdef helper.cards
    r1 = *(u8 *)(r10 + EV_OLDSTATE)
    if r1 == LISTEN goto delete
    count_here
    if r0 == 0 goto delete
    r1 = *(u64 *)(r0 + LOST_CLOSED)
    if r1 > CLOSED_MOST - 1 goto delete
    r1 = 1
    lock *(u64 *)(r0 + LOST_CLOSED) += r1
    *(u32 *)(r9 + OW_TOLD) = NOBODYS        ; and no verdict
    *(u64 *)(r9 + OW_TASK) = 0
    *(u32 *)(r9 + OW_SOURCE) = SOURCE_NONE
    goto left
delete:
.endif
    r1 = map owners ll
    r2 = r10
    r2 += EV_SOCKET
    call bpf_map_delete_elem
left:
.endm

; The entry at r9, if there is one, is of a socket before the one that is born: r9 is 0 then, or an entry without anybody.
; Changes r0 to r5.
.macro born
.ifdef helper.cards
    if r9 == 0 goto none
    r1 = *(u8 *)(r9 + OW_TOLD)
    if r1 != NOBODY goto unclosed
    count_here
    if r0 == 0 goto taken
    r1 = *(u64 *)(r0 + LOST_CLOSED)
    if r1 == 0 goto taken
    r1 = -1
    lock *(u64 *)(r0 + LOST_CLOSED) += r1
    goto taken
unclosed:
    ; its CLOSE was not seen, or it was accepted after it
    flush_held
    *(u32 *)(r9 + OW_TOLD) = NOBODYS
    *(u64 *)(r9 + OW_TASK) = 0
    *(u32 *)(r9 + OW_SOURCE) = SOURCE_NONE
taken:
    r1 = *(u8 *)(r10 + EV_NEWSTATE)
    if r1 != LISTEN goto none
    r9 = 0
none:
.else
    r9 = 0
.endif
.endm

; --- What changes: the socket, its ends and its states --------------------------------------------------------------------

    begin
.if tracefs
    r1 = *(u16 *)(r6 + protocol)            ; MPTCP, SCTP and DCCP sockets come by here too
    if r1 != IPPROTO_TCP goto out
.else
    r7 = *(u64 *)(r6 + socket)
.endif
    socket_itself

    r1 = *(u32 *)(r6 + oldstate)
    *(u8 *)(r10 + EV_OLDSTATE) = r1
    r1 = *(u32 *)(r6 + newstate)
    *(u8 *)(r10 + EV_NEWSTATE) = r1
    *(u8 *)(r10 + EV_VERSION) = VERSION
    *(u8 *)(r10 + EV_KIND) = KIND_STATE
    *(u8 *)(r10 + EV_FLAGS) = FLAG_FAMILY
    *(u32 *)(r10 + EV_TOTAL) = 0
    task_on_cpu

    r1 = map owners ll
    r2 = r10
    r2 += EV_SOCKET
    call bpf_map_lookup_elem
    r9 = r0
    ; A socket is born: what is remembered is of one before it.
    r1 = *(u8 *)(r10 + EV_NEWSTATE)
    r2 = *(u8 *)(r10 + EV_OLDSTATE)
    if r1 == SYN_SENT goto newborn
    if r1 == LISTEN goto newborn
    if r1 != SYN_RECV goto grown
    if r2 != LISTEN goto grown
newborn:
    born
    goto ended_here
grown:
    guard_known
.ifdef helper.cards
    if r9 == 0 goto ended_here
    r1 = *(u8 *)(r9 + OW_TOLD)
    if r1 != 1 goto ended_here
    ; Once a socket is established, the kernel finds it by its ends, so that these don't change.
    r2 -= SYN_SENT
    if r2 > SYN_RECV - SYN_SENT goto entered
    event_ends
    r1 = *(u64 *)(r10 + EV_LOCAL)
    r2 = *(u64 *)(r9 + OW_LOCAL)
    if r1 != r2 goto moved
    r1 = *(u64 *)(r10 + EV_LOCAL + 8)
    r2 = *(u64 *)(r9 + OW_LOCAL + 8)
    if r1 != r2 goto moved
    r1 = *(u64 *)(r10 + EV_PEER)
    r2 = *(u64 *)(r9 + OW_PEER)
    if r1 != r2 goto moved
    r1 = *(u64 *)(r10 + EV_PEER + 8)
    r2 = *(u64 *)(r9 + OW_PEER + 8)
    if r1 != r2 goto moved
    r1 = *(u32 *)(r10 + EV_PEER_PORT)       ; and the family
    r2 = *(u32 *)(r9 + OW_PEER_PORT)
    if r1 == r2 goto asked
moved:
    *(u8 *)(r9 + OW_TOLD) = 0
    goto asked
.endif
ended_here:
    event_ends
asked:
    guard_socket
entered:

; --- Whose it is: of the task on the CPU where that is the owner, else as remembered, else the listener's ----------------

    ; Who opens it owns it.
    r1 = *(u8 *)(r10 + EV_NEWSTATE)
    if r1 == SYN_SENT goto birth
    if r1 == LISTEN goto birth
    r2 = *(u8 *)(r10 + EV_OLDSTATE)

    ; A change from a state to the same teaches nothing: a close() after a shutdown() may be by who holds a duplicate.
    if r1 == r2 goto stranger
    if r2 != LISTEN goto held
    if r1 == SYN_RECV goto unknown
held:

    ; Does the socket belong to the task on the CPU? Why there are two answers: README.md, The owner
    ; without BTF.
.ifdef sock.sk_lock.owned
    ; It does if the socket's lock is held by a task: softirq then leaves the socket alone (v6.12 include/net/sock.h,
    ; sock_owned_by_user).
    *(u32 *)(r10 + TMP) = 0
    peek(r10 + TMP, r7 + sock.sk_lock.owned, 4)
    r1 = *(u32 *)(r10 + TMP)
    if r1 == 0 goto stranger
.else
    ; Only these changes are always the owner's own doing.
    r1 = *(u8 *)(r10 + EV_NEWSTATE)
    if r1 == LAST_ACK goto believed
    if r1 == FIN_WAIT1 goto finishing
    if r1 != CLOSE goto stranger
    r1 = *(u8 *)(r10 + EV_OLDSTATE)
    if r1 != LISTEN goto stranger
    goto believed
finishing:
    ; But that of a server by TCP Fast Open which shut down before the handshake was over comes in the softirq that ends
    ; the handshake (v6.12 net/ipv4/tcp_input.c, tcp_rcv_state_process), so in the same task.
    if r9 == 0 goto believed
    r1 = *(u32 *)(r9 + OW_SOURCE)
    r1 >>= 8
    r2 = *(u32 *)(r10 + EV_TASK + TID)      ; at most 22 bits (v6.12 include/linux/threads.h)
    r2 |= IN_SOFTIRQ
    if r1 != r2 goto believed
    r1 = *(u8 *)(r9 + OW_HOW)
    if r1 != SOURCE_CACHED goto stranger
    r1 = *(u32 *)(r9 + OW_TASK + PID)       ; who opened it, by simultaneous open
    r2 = *(u32 *)(r10 + EV_TASK + PID)
    if r1 != r2 goto stranger
believed:
.endif
birth:
    thread_name

    ; Is it the owner in whose context this runs? A kernel thread that opens or closes for somebody else is not, nor is who
    ; has it killed, nor who only lets go of it. A process that goes on is not in doubt.
    if r9 == 0 goto doubt
    r1 = *(u32 *)(r9 + OW_TASK + PID)
    r2 = *(u32 *)(r10 + EV_TASK + PID)
    if r1 == r2 goto sure
    ; Whose own FIN is out keeps it to the end: who then closes the last descriptor held a duplicate.
    r1 = *(u8 *)(r9 + OW_HOW)
    if r1 != SOURCE_CACHED goto doubt
    r1 = *(u8 *)(r10 + EV_OLDSTATE)
    if r1 == FIN_WAIT1 goto stranger
    if r1 == FIN_WAIT2 goto stranger
    if r1 == CLOSING goto stranger
    if r1 == LAST_ACK goto stranger
doubt:
    ; The kernel's workers open what belongs to another socket (v6.12 net/mptcp/subflow.c, __mptcp_subflow_connect), and
    ; close what nobody can close any more: descriptors on their way in a Unix socket, those of a task that is past its
    ; exit (fs/file_table.c, __fput_deferred; net/unix/garbage.c).
    no_kernel_thread
    ; sock_diag's destroy (ss -K) holds the lock, too (v6.12 net/ipv4/tcp.c, tcp_abort): the error tells it, and of a
    ; listener that its owner shuts it down before closing it, where that can be read.
    r1 = *(u8 *)(r10 + EV_NEWSTATE)
    if r1 != CLOSE goto sure
    r1 = *(u8 *)(r10 + EV_OLDSTATE)
    if r1 == LISTEN goto listener
    *(u32 *)(r10 + TMP) = 0
    peek(r10 + TMP, r7 + sock.sk_err, 4)
    r1 = *(u32 *)(r10 + TMP)
    if r1 == ECONNABORTED goto stranger
    goto sure
listener:
    *(u8 *)(r10 + TMP) = 0
    peek(r10 + TMP, r7 + sock.sk_shutdown, 1)
    r1 = *(u8 *)(r10 + TMP)
    if r1 != SHUTDOWN_MASK goto stranger
sure:
.ifdef helper.cards
    ; Is it all as it was told? Then that is all that there is to say.
    if r9 == 0 goto learn
    r1 = *(u8 *)(r9 + OW_TOLD)
    if r1 != 1 goto learn
    r1 = *(u64 *)(r9 + OW_TASK)
    r2 = *(u64 *)(r10 + EV_TASK)
    if r1 != r2 goto learn
    r1 = *(u64 *)(r9 + OW_THREAD)
    r2 = *(u64 *)(r10 + EV_OWNER + OW_THREAD)
    if r1 != r2 goto learn
    r1 = *(u64 *)(r9 + OW_THREAD + 8)
    r2 = *(u64 *)(r10 + EV_OWNER + OW_THREAD + 8)
    if r1 != r2 goto learn
.ifdef task_struct.real_parent
    r1 = *(u32 *)(r9 + OW_PARENT)
    if r1 == 0 goto learn                   ; see current_owner
.endif
    r1 = *(u8 *)(r10 + EV_OLDSTATE)
    if r1 == LISTEN goto learn
    user_here
    r0 <<= 32
    r1 = *(u32 *)(r9 + OW_UID)
    r1 <<= 32
    if r0 != r1 goto learn
    *(u8 *)(r10 + EV_HOW) = SOURCE_TASK
    *(u8 *)(r10 + EV_FLAGS) = FLAG_FAMILY + FLAG_USER
    r1 = *(u8 *)(r10 + EV_NEWSTATE)
    if r1 == CLOSE goto brief
    *(u32 *)(r9 + OW_SOURCE) = SOURCE_CACHED
    goto brief
learn:
    event_ends
.endif
    current_owner
    *(u32 *)(r10 + EV_OWNER + OW_SOURCE) = SOURCE_TASK
    r1 = *(u8 *)(r10 + EV_NEWSTATE)
    if r1 == CLOSE goto decided
    *(u32 *)(r10 + EV_OWNER + OW_SOURCE) = SOURCE_CACHED
    goto remember

stranger:
    ; The task on the CPU is anybody: what is remembered.
    if r9 == 0 goto unknown
    guard_stranger
.ifdef helper.cards
    ; Is it all as it was told?
    r1 = *(u8 *)(r9 + OW_TOLD)
    if r1 == NOBODY goto unknown
    if r1 == 0 goto recall
    r1 = *(u8 *)(r10 + EV_OLDSTATE)
    if r1 == LISTEN goto recall
.ifdef sock.sk_lock.owned
.else
    if r1 == SYN_RECV goto recall
.endif
    r1 = *(u8 *)(r9 + OW_HOW)
    *(u8 *)(r10 + EV_HOW) = r1
    if r1 == SOURCE_NONE goto brief
    if r1 != SOURCE_LISTENER goto remembered
.ifdef sock.sk_socket
    child_taken
    r1 = *(u8 *)(r9 + OW_HOW)
    *(u8 *)(r10 + EV_HOW) = r1
.else
    goto recall
.endif
remembered:
    r1 = *(u64 *)(r9 + OW_TASK)
    *(u64 *)(r10 + EV_OWNER + OW_TASK) = r1
    r1 = *(u32 *)(r9 + OW_UID)
    *(u32 *)(r10 + EV_OWNER + OW_UID) = r1
.ifdef helper.leaders
    *(u64 *)(r10 + EV_LEADER) = 0
    ; To follow addresses at each change would cost too much.
    r1 = *(u8 *)(r10 + EV_NEWSTATE)
    if r1 != CLOSE goto unfollowed
    r1 = *(u64 *)(r9 + OW_LEADER)
    *(u64 *)(r10 + EV_LEADER) = r1
unfollowed:
.endif
    owner_now
    r1 = *(u32 *)(r10 + EV_OWNER + OW_UID)
    r2 = *(u32 *)(r9 + OW_UID)
    if r1 == r2 goto brief
recall:
    event_ends
.endif
    *(u8 *)(r9 + OW_TOLD) = 1               ; before it is copied: accepted.inc says the contrary after it has replaced it
    r2 = r9
    copy_owner
    r1 = *(u8 *)(r9 + OW_HOW)
    *(u32 *)(r10 + EV_OWNER + OW_SOURCE) = r1
    if r1 != SOURCE_LISTENER goto known
.ifdef sock.sk_socket
    child_taken
.else
    ; It may have been accepted as soon as the handshake is over.
    *(u8 *)(r9 + OW_HOW) = SOURCE_TAKEN
    r1 = *(u8 *)(r10 + EV_OLDSTATE)
    if r1 == SYN_RECV goto known
    *(u8 *)(r10 + EV_OWNER + OW_HOW) = SOURCE_TAKEN
.endif
known:
.ifdef sock.sk_lock.owned
.else
    r2 = *(u8 *)(r10 + EV_OLDSTATE)
    if r2 != SYN_RECV goto decided
    r1 = *(u8 *)(r9 + OW_HOW)
    r2 = *(u32 *)(r10 + EV_TASK + TID)
    r2 |= IN_SOFTIRQ
    r2 <<= 8
    r1 |= r2
    *(u32 *)(r9 + OW_SOURCE) = r1
.endif
    goto decided

unknown:
    ; Nothing is remembered. Is it a listener's child, at its first change?
.ifdef helper.cards
    event_ends                              ; they are there, but the verifier can't know
.endif
.ifdef tcp_sock.tsorted_sent_queue.next
    r1 = *(u8 *)(r10 + EV_OLDSTATE)
    if r1 != LISTEN goto unborn
    r1 = *(u8 *)(r10 + EV_NEWSTATE)
    if r1 != SYN_RECV goto unborn
    ; It is still a copy of the listener. The head of a listener's queue, which is empty, points to itself; so that of the
    ; copy does to the listener's (v6.12 net/ipv4/tcp_minisocks.c, tcp_create_openreq_child). There its owner is, too.
    listener_queue
    call bpf_map_lookup_elem
    if r0 != 0 goto heir
unborn:
.endif
    no_owner
    r1 = *(u8 *)(r10 + EV_OLDSTATE)
    if r1 == CLOSE goto nobody              ; opened by a thread of the kernel
.ifdef sock.sk_lock.owned
    if r1 != LISTEN goto decided
.else
    if r1 == LISTEN goto child
    if r1 != SYN_RECV goto decided
    r1 = *(u8 *)(r10 + EV_NEWSTATE)
    if r1 != ESTABLISHED goto decided
    r1 = *(u32 *)(r10 + EV_TASK + TID)
    r1 |= IN_SOFTIRQ
    r1 <<= 8
    *(u32 *)(r10 + EV_OWNER + OW_SOURCE) = r1
    goto remember
child:
.endif
    r1 = *(u8 *)(r10 + EV_NEWSTATE)
    if r1 != SYN_RECV goto decided

    ; A listener's child that is not known by the queue.
    ; It has the listener's port, and its address or one that a wildcard stands for, unless it was steered.
    listener_here
    call bpf_map_lookup_elem
    if r0 != 0 goto inherit
    *(u64 *)(r10 + LK_ADDRESS) = 0
    *(u64 *)(r10 + LK_ADDRESS + 8) = 0
    r1 = *(u16 *)(r10 + EV_FAMILY)
    if r1 != AF_INET goto wild
    *(u32 *)(r10 + LK_ADDRESS + 8) = MAPPED_LOW
wild:
    listener_key
    call bpf_map_lookup_elem
    if r0 == 0 goto nobody
inherit:
.ifdef tcp_sock.tsorted_sent_queue.next
    ; The listener is one from before the start: those that came later alone are others.
    r1 = *(u8 *)(r0 + OW_HOW)
    if r1 == SOURCE_TASK goto nobody
.endif
    r1 = *(u32 *)(r0 + LI_COUNT)
    if r1 == 0 goto nobody
    r1 = *(u32 *)(r0 + LI_DISAGREE)
    if r1 == 0 goto heir
nobody:
    ; Or whose of them it is can't be told.
.ifdef helper.cards
.else
    r1 = map owners ll
    r2 = r10
    r2 += EV_SOCKET
    call bpf_map_delete_elem
.endif
    goto decided
heir:
    r2 = r0
    copy_owner
    *(u32 *)(r10 + EV_OWNER + OW_SOURCE) = SOURCE_LISTENER
    owner_now                               ; it is kept as it is told

remember:
    *(u32 *)(r10 + EV_TOLD) = TOLD          ; and no verdict
    if r9 == 0 goto insert
    *(u8 *)(r9 + OW_TOLD) = 1               ; before what is told, as above
    replace_owner
    goto kept
insert:
    keep_owner
kept:
    r1 = *(u8 *)(r10 + EV_OWNER + OW_HOW)
    *(u32 *)(r10 + EV_OWNER + OW_SOURCE) = r1
    if r1 != SOURCE_CACHED goto dated
    *(u32 *)(r10 + EV_OWNER + OW_SOURCE) = SOURCE_TASK
    r1 = *(u8 *)(r10 + EV_NEWSTATE)
    if r1 != LISTEN goto decided

    ; A new listener.
.ifdef tcp_sock.tsorted_sent_queue.next
    ; Its owner by the place of its queue, too; without room for it, its children are nobody's.
    none_held
    listener_queue
    r3 = r10
    r3 += EV_OWNER
    r4 = BPF_ANY
    call bpf_map_update_elem
    r9 = r0                                 ; 0 if there was room: nothing is remembered of what is born
.endif
    listener_here
    call bpf_map_lookup_elem
    if r0 != 0 goto join
    *(u32 *)(r10 + EV_OWNER + LI_COUNT) = 1
    *(u32 *)(r10 + EV_OWNER + LI_DISAGREE) = 0
    listener_key
    r3 = r10
    r3 += EV_OWNER
    r4 = BPF_NOEXIST
    call bpf_map_update_elem
    if r0 == 0 goto listed
    ; another one has just come on another CPU, or the map is full
    listener_key
    call bpf_map_lookup_elem
    if r0 != 0 goto join
    r9 = 1
    goto listed
join:
    r1 = 1
    lock *(u32 *)(r0 + LI_COUNT) += r1
    r1 = *(u32 *)(r0 + OW_TASK + PID)
    r2 = *(u32 *)(r10 + EV_OWNER + OW_TASK + PID)
    if r1 == r2 goto listed
    *(u32 *)(r0 + LI_DISAGREE) = 1
listed:
    if r9 == 0 goto owned
    listener_lost
    r9 = 0
    goto owned

; --- The owner is decided: its user now, and what is forgotten at CLOSE ---------------------------------------------------

decided:
    r1 = *(u8 *)(r10 + EV_OWNER + OW_HOW)
    if r1 == SOURCE_NONE goto dated
    if r1 == SOURCE_TASK goto dated
    ; To follow addresses at each change would cost too much.
    r1 = *(u8 *)(r10 + EV_NEWSTATE)
    if r1 == CLOSE goto dating
    *(u64 *)(r10 + EV_LEADER) = 0
dating:
    owner_now
dated:
    r1 = *(u8 *)(r10 + EV_NEWSTATE)
    if r1 != CLOSE goto owned
    if r9 == 0 goto forgotten
    flush_held
    forget_socket
forgotten:
    r1 = *(u8 *)(r10 + EV_OLDSTATE)
    if r1 != LISTEN goto owned

    ; A listener goes.
.ifdef tcp_sock.tsorted_sent_queue.next
    listener_queue
    call bpf_map_delete_elem
.endif
    listener_here
    call bpf_map_lookup_elem
    if r0 == 0 goto owned
    r1 = *(u32 *)(r0 + LI_COUNT)
    if r1 > 1 goto others
    listener_key
    call bpf_map_delete_elem
    goto owned
others:
    r1 = -1
    lock *(u32 *)(r0 + LI_COUNT) += r1
owned:
    guard_owner

; --- What is sent: the card where it is new, at a change to CLOSE what the socket has counted ------------------------------

    r1 = *(u8 *)(r10 + EV_OWNER + OW_HOW)
    *(u8 *)(r10 + EV_HOW) = r1
.ifdef helper.cards
.else
    r1 = *(u8 *)(r10 + EV_FLAGS)
    r1 &= FLAG_BRIEF
    if r1 != 0 goto brief                   ; never: but nothing else leads there
.endif
    *(u32 *)(r10 + EV_ERR) = 0
    r1 = *(u8 *)(r10 + EV_NEWSTATE)
    ; At a second connect() the port that is told is the one before: it is not chosen yet (v6.12 net/ipv4/tcp_ipv4.c,
    ; tcp_v4_connect, and tcp.c, tcp_disconnect, which leaves inet_sport as it is).
    if r1 != SYN_SENT goto ported
    r2 = *(u16 *)(r10 + EV_LOCAL_PORT)
    if r2 == 0 goto ported
    peek(r10 + EV_LOCAL_PORT, r7 + sock.__sk_common.skc_num, 2)
    r1 = *(u8 *)(r10 + EV_NEWSTATE)
ported:
    if r1 == CLOSE goto closing
.ifdef helper.cards
    ; The card is kept as it is told, so that it need not be told again.
    if r9 == 0 goto uncarded
    r1 = *(u8 *)(r9 + OW_TOLD)
    if r1 != NOBODY goto somebodys
    *(u8 *)(r9 + OW_TOLD) = 1
    replace_owner                           ; nobody's
somebodys:
    r1 = *(u32 *)(r10 + EV_OWNER + OW_UID)
    *(u32 *)(r9 + OW_UID) = r1
    r1 = *(u64 *)(r10 + EV_LOCAL)
    *(u64 *)(r9 + OW_LOCAL) = r1
    r1 = *(u64 *)(r10 + EV_LOCAL + 8)
    *(u64 *)(r9 + OW_LOCAL + 8) = r1
    r1 = *(u64 *)(r10 + EV_PEER)
    *(u64 *)(r9 + OW_PEER) = r1
    r1 = *(u64 *)(r10 + EV_PEER + 8)
    *(u64 *)(r9 + OW_PEER + 8) = r1
    r1 = *(u32 *)(r10 + EV_PEER_PORT)       ; and the family
    *(u32 *)(r9 + OW_PEER_PORT) = r1
    card_kept
    goto carded
uncarded:
    r1 = *(u8 *)(r10 + EV_HOW)
    if r1 != SOURCE_NONE goto carded
    r1 = *(u8 *)(r10 + EV_FLAGS)
    r1 &= FLAG_CARD
    if r1 != 0 goto carded
    *(u32 *)(r10 + EV_TOLD) = TOLD
    keep_owner                              ; nobody's, but a card
carded:
.endif
    whole_event
    behind_card
    goto send

    ; As it was told: the head alone.
brief:
    r1 = *(u8 *)(r10 + EV_FLAGS)
    r1 |= FLAG_BRIEF
    *(u8 *)(r10 + EV_FLAGS) = r1
    r1 = *(u8 *)(r10 + EV_NEWSTATE)
    if r1 == CLOSE goto ended
    hold
    r4 = r10
    r4 += EV_SOCKET
    r5 = EV_HEAD
    behind_head
    goto send
ended:
    if r9 == 0 goto gone                    ; never
.ifdef helper.hold
    r1 = *(u32 *)(r9 + OW_HELD)
    if r1 == 0 goto alone
    *(u32 *)(r10 + EV_TOTAL) = r1
    r2 = r10
    r2 += HELD_AT_CLOSE
    take_held
    forget_socket
    ; What of the card's place is not taken by that, as below.
    *(u32 *)(r10 + EV_ERR) = 0
    *(u64 *)(r10 + EV_OWNER) = 0
    *(u64 *)(r10 + EV_OWNER + 8) = 0
    *(u64 *)(r10 + EV_OWNER + 16) = 0
    *(u64 *)(r10 + EV_OWNER + 24) = 0
    *(u64 *)(r10 + EV_OWNER + 32) = 0
    *(u64 *)(r10 + EV_OWNER + 40) = 0
    *(u32 *)(r10 + EV_OWNER + 48) = 0
    goto closing
alone:
.endif
    forget_socket
gone:
    ; The verifier does not know that this is sent without the card.
    *(u32 *)(r10 + EV_ERR) = 0
    *(u64 *)(r10 + EV_OWNER) = 0
    *(u64 *)(r10 + EV_OWNER + 8) = 0
    *(u64 *)(r10 + EV_OWNER + 16) = 0
    *(u64 *)(r10 + EV_OWNER + 24) = 0
    *(u64 *)(r10 + EV_OWNER + 32) = 0
    *(u64 *)(r10 + EV_OWNER + 40) = 0
    *(u64 *)(r10 + EV_OWNER + 48) = 0
    *(u64 *)(r10 + EV_OWNER + 56) = 0
    *(u64 *)(r10 + EV_LOCAL) = 0
    *(u64 *)(r10 + EV_LOCAL + 8) = 0
    *(u64 *)(r10 + EV_PEER) = 0
    *(u64 *)(r10 + EV_PEER + 8) = 0
    *(u32 *)(r10 + EV_PEER_PORT) = 0

closing:
    *(u32 *)(r10 + EV_SKERR) = 0
    *(u32 *)(r10 + EV_SEGS_OUT) = 0
    *(u64 *)(r10 + EV_BYTES_SENT) = 0
    *(u64 *)(r10 + EV_RETRANS) = 0
    *(u64 *)(r10 + EV_RECEIVED) = 0
    *(u64 *)(r10 + EV_SKFLAGS) = 0          ; and srtt_us
    *(u64 *)(r10 + EV_MINRTT) = 0           ; and segs_in
    *(u64 *)(r10 + EV_ALL_RETRANS) = 0      ; and snd_una
    *(u64 *)(r10 + EV_ACKED) = 0
    *(u64 *)(r10 + EV_NXT) = 0              ; and write_seq
    *(u64 *)(r10 + EV_TW_COUNT) = 0         ; and the limit
    *(u64 *)(r10 + TMP) = 0
.equ NET LK_NETNS                           ; the key is of no use any more
    *(u64 *)(r10 + NET) = 0
    peek(r10 + NET, r7 + sock.__sk_common.skc_net.net, 8)
    peek(r10 + EV_SKFLAGS, r7 + sock.__sk_common.skc_flags, 4)
    peek(r10 + EV_SKERR, r7 + sock.sk_err, 4)
    peek(r10 + TMP, r7 + sock.sk_socket, 8)
    peek(r10 + EV_SEGS_OUT, r8 + tcp_sock.segs_out, 4)
    peek(r10 + EV_SEGS_IN, r8 + tcp_sock.segs_in, 4)
    peek(r10 + EV_BYTES_SENT, r8 + tcp_sock.bytes_sent, 8)
    peek(r10 + EV_RETRANS, r8 + tcp_sock.bytes_retrans, 8)
    peek(r10 + EV_RECEIVED, r8 + tcp_sock.bytes_received, 8)
    peek(r10 + EV_SRTT, r8 + tcp_sock.srtt_us, 4)
    peek(r10 + EV_MINRTT, r8 + tcp_sock.rtt_min.s.v, 4)
    peek(r10 + EV_ALL_RETRANS, r8 + tcp_sock.total_retrans, 4)
    peek(r10 + EV_ACKED, r8 + tcp_sock.bytes_acked, 8)
    peek(r10 + EV_UNA, r8 + tcp_sock.snd_una, 4)
    peek(r10 + EV_NXT, r8 + tcp_sock.snd_nxt, 4)
    peek(r10 + EV_WRITTEN, r8 + tcp_sock.write_seq, 4)

    r1 = *(u64 *)(r10 + TMP)
    if r1 == 0 goto orphan
    r1 = *(u8 *)(r10 + EV_FLAGS)
    r1 |= FLAG_SOCKET
    *(u8 *)(r10 + EV_FLAGS) = r1
orphan:

    ; Only from these states the kernel goes on to TIME_WAIT.
    r1 = *(u8 *)(r10 + EV_OLDSTATE)
    if r1 == FIN_WAIT2 goto waiting
    if r1 != CLOSING goto told
waiting:
    *(u64 *)(r10 + TMP) = 0
    ; Whether the kernel's table of time-wait sockets had room: how many of them the socket's network namespace has, this one
    ; with them if it became one, and how many it may have (v6.12 net/ipv4/inet_timewait_sock.c, inet_twsk_alloc;
    ; tcp_minisocks.c, tcp_time_wait, comes to CLOSE after that).
.ifdef sock.__sk_common.skc_net.net
    r9 = *(u64 *)(r10 + NET)
.ifdef net.ipv4.tcp_death_row
    peek(r10 + NET, r9 + net.ipv4.tcp_death_row, 8)
    r9 = *(u64 *)(r10 + NET)
    peek(r10 + TMP, r9 + inet_timewait_death_row.tw_refcount.refs.counter, 4)
    peek(r10 + EV_TW_LIMIT, r9 + inet_timewait_death_row.sysctl_max_tw_buckets, 4)
.else
    peek(r10 + TMP, r9 + net.ipv4.tcp_death_row.tw_refcount.refs.counter, 4)
    peek(r10 + EV_TW_COUNT, r9 + net.ipv4.tcp_death_row.tw_count.counter, 4)
    peek(r10 + EV_TW_LIMIT, r9 + net.ipv4.tcp_death_row.sysctl_max_tw_buckets, 4)
.endif
    ; One reference is the namespace's; none are counted where time-wait sockets are. Without a jump, which the verifier
    ; would take out where it knows that there are none.
    r1 = *(u32 *)(r10 + TMP)
    r2 = 0
    r2 -= r1
    r2 >>= 63                               ; 1 if there are any
    r1 -= r2
    r2 = *(u32 *)(r10 + EV_TW_COUNT)
    r1 += r2
    *(u32 *)(r10 + EV_TW_COUNT) = r1
.endif
told:
    r1 = *(u8 *)(r10 + EV_FLAGS)
    r1 &= FLAG_BRIEF
    if r1 == 0 goto entire
.ifdef helper.hold
    r1 = *(u32 *)(r10 + EV_TOTAL)
    if r1 == 0 goto bare
    ; The head before what was held and the counters, in place of the card.
.equ LADEN HELD_AT_CLOSE - EV_HEAD
    r1 = *(u64 *)(r10 + EV_SOCKET)
    *(u64 *)(r10 + LADEN) = r1
    r1 = *(u64 *)(r10 + EV_TASK)
    *(u64 *)(r10 + LADEN + 8) = r1
    r1 = *(u64 *)(r10 + EV_TOTAL)
    *(u64 *)(r10 + LADEN + 16) = r1
    r1 = *(u32 *)(r10 + EV_FLAGS)
    *(u32 *)(r10 + LADEN + 24) = r1
    r4 = r10
    r4 += LADEN
    r5 = EV_BRIEF_SIZE + HELD_SIZE
    goto send
bare:
.endif
    ; The head before the counters, in place of the card.
.equ BRIEF EV_SOCKET + EV_SIZE - EV_HEAD
    r1 = *(u64 *)(r10 + EV_SOCKET)
    *(u64 *)(r10 + BRIEF) = r1
    r1 = *(u64 *)(r10 + EV_TASK)
    *(u64 *)(r10 + BRIEF + 8) = r1
    r1 = *(u64 *)(r10 + EV_TOTAL)
    *(u64 *)(r10 + BRIEF + 16) = r1
    r1 = *(u32 *)(r10 + EV_FLAGS)
    *(u32 *)(r10 + BRIEF + 24) = r1
    r4 = r10
    r4 += BRIEF
    r5 = EV_BRIEF_SIZE
    goto send
entire:
.ifdef helper.cards
    r5 = EV_CLOSE_SIZE
.else
    r1 = r10
    r1 += EV_SOCKET + EV_CLOSE_SIZE
    r2 = COMM_SIZE
    call bpf_get_current_comm
    r5 = EV_CLOSE_SIZE + EV_COMM_SIZE
.endif
    r4 = r10
    r4 += EV_SOCKET
send:
    ; Where the time of a whole event is to stand. A verifier that does not know that it overwrites what is there now (v6.18
    ; kernel/bpf/liveness.c) goes through what is above once for each thing that may be.
    *(u64 *)(r10 + TMP) = 0
    output
.ifdef helper.hold
    ; It has not left: at its CLOSE nor has what was held.
    r1 = *(u8 *)(r10 + EV_NEWSTATE)
    if r1 != CLOSE goto stays
    r1 = *(u32 *)(r10 + EV_TOTAL)
    if r1 == 0 goto stays
    held_lost
stays:
.endif
.ifdef helper.cards
    ; It has not left: the card is to be told again.
    r1 = map owners ll
    r2 = r10
    r2 += EV_SOCKET
    call bpf_map_lookup_elem
    if r0 == 0 goto out
    *(u8 *)(r0 + OW_TOLD) = 0
.ifdef helper.hold
    ; What was held still is.
    r1 = *(u8 *)(r10 + EV_NEWSTATE)
    if r1 == CLOSE goto told_again
    r1 = *(u32 *)(r10 + EV_TOTAL)
    if r1 == 0 goto told_again
    *(u32 *)(r0 + OW_HELD) = r1
told_again:
.endif
.ifdef helper.guard
    *(u8 *)(r0 + OW_VERDICT) = VERDICT_OPEN ; nor has that it is refused
.endif
.endif
.ifdef helper.guard
    goto out
.endif
away:
.ifdef helper.guard
    count_kept
.endif
out:
    pass
