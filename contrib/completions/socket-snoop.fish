# fish completion for socket-snoop(8), made from --help and the words of a filter by 'make man'.

# Whether a command stands here, behind `--`.
function __socket_snoop_command
    contains -- -- (commandline -opc)
end

# What may stand here of a filter.
function __socket_snoop_filter
    set -l words (commandline -opc)
    switch $words[-1]
        case src dst local peer
            string split ' ' 'host net port portrange'
        case state exclude from to
            string split ' ' 'established syn-sent syn-recv fin-wait-1 fin-wait-2 time-wait close closed unconnected close-wait last-ack listen listening closing new-syn-recv bound-inactive all connected synchronized bucket big'
        case owner
            string split ' ' 'none'
        case event
            string split ' ' 'state retransmit connection'
        case cause
            string split ' ' 'refused given_up timed_out unreachable aborted reset_by_peer reset_by_us closed_by_peer closed_by_us closed_by_both never_accepted duplicate unknown'
        case pid tree
            __fish_complete_pids
        case uid
            __fish_complete_users
        case netns
            __fish_complete_path (commandline -ct)
        case --help
            echo filter
        case '*'
            string split ' ' 'port host net portrange src dst local peer sport dport ip ip6 inet inet6 tcp state exclude pid tree comm uid cgroup container netns owner event from to incoming inbound outgoing outbound loopback cause failures duration rtt bytes retransmits and or not'
    end
end

# What the command's own completion says.
function __socket_snoop_of_command
    set -l words (commandline -opc)
    set -l at (contains -i -- -- $words)
    set -l words (string escape -- $words[(math $at + 1)..-1]) (commandline -ct)
    complete -C (string join ' ' -- $words)
end

complete -c socket-snoop-full -w socket-snoop
complete -c socket-snoop -f
complete -c socket-snoop -n __socket_snoop_command -a '(__socket_snoop_of_command)'
complete -c socket-snoop -n 'not __socket_snoop_command' -a '(__socket_snoop_filter)'
complete -c socket-snoop -n 'not __socket_snoop_command' -l pid -x -a '(__fish_complete_pids)' -d 'show only sockets that belong to this process id'
complete -c socket-snoop -n 'not __socket_snoop_command' -l src-ip -x -d 'show only this local address (IPv4 or IPv6)'
complete -c socket-snoop -n 'not __socket_snoop_command' -l dst-ip -x -d 'show only this peer address (IPv4 or IPv6)'
complete -c socket-snoop -n 'not __socket_snoop_command' -l src-port -x -d 'show only this local port'
complete -c socket-snoop -n 'not __socket_snoop_command' -l dst-port -x -d 'show only this peer port'
complete -c socket-snoop -n 'not __socket_snoop_command' -l active-only -d 'show only connections becoming established'
complete -c socket-snoop -n 'not __socket_snoop_command' -l filter-file -r -F -d 'a file with a filter, which must match, too; read again on SIGHUP'
complete -c socket-snoop -n 'not __socket_snoop_command' -l all -d 'show listeners and half-open sockets too (address 0.0.0.0 or ::)'
complete -c socket-snoop -n 'not __socket_snoop_command' -l on-cpu -d 'name the task on the CPU in classic lines, too (ON_CPU)'
complete -c socket-snoop -n 'not __socket_snoop_command' -l connections -d 'show a line for each connection at its end, too (JSON always has it)'
complete -c socket-snoop -n 'not __socket_snoop_command' -l closed-only -d 'show nothing but a line for each connection at its end'
complete -c socket-snoop -n 'not __socket_snoop_command' -l format -x -a 'classic json trace' -d 'what standard output carries: classic (default), json, or trace (for Perfetto)'
complete -c socket-snoop -n 'not __socket_snoop_command' -l top -x -d 'a live table instead of lines, drawn this often (default: 2)'
complete -c socket-snoop -n 'not __socket_snoop_command' -s r -l read -r -F -d 'read recorded JSON lines instead of tracing (-: standard input); several are merged by time'
complete -c socket-snoop -n 'not __socket_snoop_command' -l speed -x -d 'with -r: so many times their pace (default: max; with --top: 1)'
complete -c socket-snoop -n 'not __socket_snoop_command' -l log-file -r -F -d 'log file to append to (default: $SOCKET_SNOOP_LOG, else /var/log/socket_monitor.log)'
complete -c socket-snoop -n 'not __socket_snoop_command' -l no-log -d 'write no log file'
complete -c socket-snoop -n 'not __socket_snoop_command' -l log-format -x -a 'classic json' -d 'what the log file holds: classic (default) or json'
complete -c socket-snoop -n 'not __socket_snoop_command' -l log-max-size -x -d 'size, such as 512K, 64M or 1G, at which the log is renamed to PATH.1 and begun anew (default: never)'
complete -c socket-snoop -n 'not __socket_snoop_command' -l metrics -r -F -d 'a file for Prometheus'\'' figures, written anew every now and then'
complete -c socket-snoop -n 'not __socket_snoop_command' -l metrics-interval -x -d 'how often that is (default: 15)'
complete -c socket-snoop -n 'not __socket_snoop_command' -l duration -x -d 'stop after this time, such as 10 or 0.5'
complete -c socket-snoop -n 'not __socket_snoop_command' -l interval -x -d 'a record of each connection that is open, every so often'
complete -c socket-snoop -n 'not __socket_snoop_command' -l count -x -d 'stop after showing this many events'
complete -c socket-snoop -n 'not __socket_snoop_command' -l buffer -x -d 'ring buffer of each CPU in bytes, such as 256K or 4M, rounded up to a power of two of pages (default: 2M, less on hosts with more than 32 CPUs or little memory)'
complete -c socket-snoop -n 'not __socket_snoop_command' -l connections-max -x -d 'connections that may be open at once; beyond, they are a loss (default: 65536)'
complete -c socket-snoop -n 'not __socket_snoop_command' -l history -x -d 'connections that have ended, held for the report (default: 8192)'
complete -c socket-snoop -n 'not __socket_snoop_command' -l lifecycles -x -d 'connections whose lifecycle the report tells, the latest: a number, or all (default: 50)'
complete -c socket-snoop -n 'not __socket_snoop_command' -l accept-owner -d 'learn who accepted a connection at its first read, too (costs time at every read of the host)'
complete -c socket-snoop -n 'not __socket_snoop_command' -l no-snapshot -d 'do not look for sockets that are open before the start'
complete -c socket-snoop -n 'not __socket_snoop_command' -l transport -x -a 'tracepoint btf perf' -d 'how events are obtained: tracepoint, btf or perf (default: the first that works)'
complete -c socket-snoop -n 'not __socket_snoop_command' -l sandbox -x -a 'off on strict' -d 'what is given up once everything is attached: off, on (default) or strict'
complete -c socket-snoop -n 'not __socket_snoop_command' -l user -x -a '(__fish_complete_users)' -d 'become this user once everything is attached'
complete -c socket-snoop -n 'not __socket_snoop_command' -l priority -x -a 'on off' -d 'take precedence over other processes: on (default, where allowed) or off'
complete -c socket-snoop -n 'not __socket_snoop_command' -l check -d 'say what this host gives and what will be on, and exit: 0 all, 1 some, 2 can'\''t run'
complete -c socket-snoop -n 'not __socket_snoop_command' -s d -l dump -d 'print the programs that a run would load, as they are linked for this host, and exit; nothing is loaded. With a filter, that alone as it is compiled; with it in the programs by -d -d'
complete -c socket-snoop -n 'not __socket_snoop_command' -l formats -x -a '(__fish_complete_directories)' -d 'with -d: for a host whose tracepoints'\'' format files are here'
complete -c socket-snoop -n 'not __socket_snoop_command' -l btf -r -F -d 'with -d: for a host whose BTF this is, or whose vmlinux'
complete -c socket-snoop -n 'not __socket_snoop_command' -l export-object -x -a '(__fish_complete_directories)' -d 'write those programs as ELF objects, and exit'
complete -c socket-snoop -n 'not __socket_snoop_command' -l version -d 'print the version and exit'
complete -c socket-snoop -n 'not __socket_snoop_command' -l help -d 'display usage information'
