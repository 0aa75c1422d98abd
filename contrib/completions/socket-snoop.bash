# shellcheck shell=bash
# bash completion for socket-snoop(8), made from --help and the words of a filter by 'make man'.

# What of these words goes on from what stands there.
_socket_snoop_words() {
    mapfile -t COMPREPLY < <(compgen -W "$1" -- "$word")
}

# The same of files, folders or users.
_socket_snoop_names() {
    [[ $1 == -u ]] || compopt -o filenames 2>/dev/null
    mapfile -t COMPREPLY < <(compgen "$1" -- "$word")
}

_socket_snoop_processes() {
    _socket_snoop_words "$(cd /proc && printf '%s ' [0-9]*)"
}

_socket_snoop() {
    local word=${COMP_WORDS[COMP_CWORD]} before=${COMP_WORDS[COMP_CWORD - 1]} at
    COMPREPLY=()
    for ((at = 1; at < COMP_CWORD; at++)); do
        [[ ${COMP_WORDS[at]} == -- ]] || continue
        if declare -F _command_offset >/dev/null; then
            _command_offset $((at + 1))
        elif ((at + 1 == COMP_CWORD)); then
            _socket_snoop_names -c
        else
            _socket_snoop_names -f
        fi
        return
    done
    # `--name=value` are three words here.
    if [[ $word == = ]]; then
        word=
    elif [[ $before == = ]]; then
        before=${COMP_WORDS[COMP_CWORD - 2]}
    fi
    case $before in
        --pid) _socket_snoop_processes ;;
        --filter-file) _socket_snoop_names -f ;;
        --format) _socket_snoop_words 'classic json trace' ;;
        -r | --read) _socket_snoop_names -f ;;
        --log-file) _socket_snoop_names -f ;;
        --log-format) _socket_snoop_words 'classic json' ;;
        --metrics) _socket_snoop_names -f ;;
        --transport) _socket_snoop_words 'tracepoint btf perf' ;;
        --sandbox) _socket_snoop_words 'off on strict' ;;
        --user) _socket_snoop_names -u ;;
        --priority) _socket_snoop_words 'on off' ;;
        --formats) _socket_snoop_names -d ;;
        --btf) _socket_snoop_names -f ;;
        --export-object) _socket_snoop_names -d ;;
        --src-ip | --dst-ip | --src-port | --dst-port | --top | --speed | --log-max-size | --metrics-interval | --duration | --interval | --count | --buffer | --connections-max | --history | --lifecycles) ;;
        --help) _socket_snoop_words 'filter' ;;
        src | dst | local | peer) _socket_snoop_words 'host net port portrange' ;;
        state | exclude | from | to) _socket_snoop_words 'established syn-sent syn-recv fin-wait-1 fin-wait-2 time-wait close closed unconnected close-wait last-ack listen listening closing new-syn-recv bound-inactive all connected synchronized bucket big' ;;
        owner) _socket_snoop_words 'none' ;;
        event) _socket_snoop_words 'state retransmit connection' ;;
        cause) _socket_snoop_words 'refused given_up timed_out unreachable aborted reset_by_peer reset_by_us closed_by_peer closed_by_us closed_by_both never_accepted duplicate unknown' ;;
        pid | tree) _socket_snoop_processes ;;
        uid) _socket_snoop_names -u ;;
        netns) _socket_snoop_names -f ;;
        *)
            if [[ $word == -* ]]; then
                _socket_snoop_words '--pid --src-ip --dst-ip --src-port --dst-port --active-only --filter-file --all --on-cpu --connections --closed-only --format --top -r --read --speed --log-file --no-log --log-format --log-max-size --metrics --metrics-interval --duration --interval --count --buffer --connections-max --history --lifecycles --accept-owner --no-snapshot --transport --sandbox --user --priority --check -d --dump --formats --btf --export-object --version --help --'
            else
                _socket_snoop_words 'port host net portrange src dst local peer sport dport ip ip6 inet inet6 tcp state exclude pid tree comm uid cgroup container netns owner event from to incoming inbound outgoing outbound loopback cause failures duration rtt bytes retransmits and or not'
            fi
            ;;
    esac
}

complete -F _socket_snoop socket-snoop socket-snoop-full
