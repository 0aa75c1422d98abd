//! The completions.
//!
//! Contract: they need nothing of their shell but what comes with it. A filter's words are completed where
//! each stands by itself; behind `--` a command is, as the shell does it anywhere else.

use super::{Flag, Values, flags};
use crate::filter::vocabulary;
use std::fmt::Write as _;

const MADE: &str = "made from --help and the words of a filter by 'make man'.";

/// What may follow words of a filter: the words, and then what.
fn after() -> Vec<(Vec<&'static str>, String)> {
    let mut out: Vec<(Vec<&str>, String)> = Vec::new();
    for (word, values) in vocabulary() {
        let values = values.join(" ");
        match out.iter_mut().find(|(_, known)| *known == values) {
            Some((words, _)) => words.push(word),
            None => out.push((vec![word], values)),
        }
    }
    out.retain(|(_, values)| !values.is_empty());
    out
}

/// The words that may stand anywhere in a filter.
fn starts() -> String {
    let words: Vec<_> = vocabulary().into_iter().map(|(word, _)| word).collect();
    words.join(" ")
}

/// The names of a flag, the short one first.
fn names(flag: &Flag) -> Vec<String> {
    let short = flag.short.map(|short| format!("-{short}"));
    short.into_iter().chain([flag.long.to_string()]).collect()
}

/// In single quotes, for all three shells.
fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', "'\\''"))
}

pub(super) fn bash() -> String {
    let (mut cases, mut all, mut open) = (String::new(), Vec::new(), Vec::new());
    let listed = |words: &str| format!("_socket_snoop_words {}", quoted(words));
    for flag in flags() {
        all.extend(names(&flag));
        let names = names(&flag).join(" | ");
        let does = match (&flag.values, flag.value) {
            (Values::Words(words), _) => listed(&words.join(" ")),
            (Values::Files, _) => "_socket_snoop_names -f".into(),
            (Values::Folders, _) => "_socket_snoop_names -d".into(),
            (Values::Users, _) => "_socket_snoop_names -u".into(),
            (Values::Processes, _) => "_socket_snoop_processes".into(),
            (Values::Open, Some(_)) => {
                open.push(names);
                continue;
            }
            (Values::Open, None) => continue,
        };
        let _ = writeln!(cases, "        {names}) {does} ;;");
    }
    let _ = writeln!(cases, "        {}) ;;", open.join(" | "));
    let _ = writeln!(cases, "        --help) {} ;;", listed("filter"));
    for (words, values) in after() {
        let _ = writeln!(
            cases,
            "        {}) {} ;;",
            words.join(" | "),
            listed(&values)
        );
    }
    let _ = writeln!(cases, "        pid | tree) _socket_snoop_processes ;;");
    let _ = writeln!(cases, "        uid) _socket_snoop_names -u ;;");
    let _ = writeln!(cases, "        netns) _socket_snoop_names -f ;;");
    let template = r#"# shellcheck shell=bash
# bash completion for socket-snoop(8), MADE

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
CASES        *)
            if [[ $word == -* ]]; then
                _socket_snoop_words 'FLAGS'
            else
                _socket_snoop_words 'STARTS'
            fi
            ;;
    esac
}

complete -F _socket_snoop socket-snoop socket-snoop-full
"#;
    template
        .replace("MADE", MADE)
        .replace("CASES", &cases)
        .replace("FLAGS", &(all.join(" ") + " --"))
        .replace("STARTS", &starts())
}

pub(super) fn zsh() -> String {
    let mut specs = String::new();
    for flag in flags() {
        // What ends a description, or a part of a specification.
        let about = flag.about.replace('\\', "\\\\").replace(':', "\\:");
        let about = about.replace('[', "\\[").replace(']', "\\]");
        let action = match &flag.values {
            Values::Words(words) => format!("({})", words.join(" ")),
            Values::Files => "_files".into(),
            Values::Folders => "_files -/".into(),
            Values::Users => "_users".into(),
            Values::Processes => "_pids".into(),
            Values::Open => String::new(),
        };
        let takes = flag.value.map(|value| format!(":{value}:{action}"));
        let takes = match (takes, flag.long) {
            (_, "--help") => ":page:(filter)".into(),
            (takes, _) => takes.unwrap_or_default(),
        };
        let sign = if flag.value.is_some() { "=" } else { "" };
        let star = if flag.repeats { "*" } else { "" };
        for name in names(&flag) {
            let spec = format!("{star}{name}{sign}[{about}]{takes}");
            let _ = writeln!(specs, "        {} \\", quoted(&spec));
        }
    }
    let mut cases = String::new();
    for (words, values) in after() {
        let _ = writeln!(cases, "        {}) compadd -- {values} ;;", words.join("|"));
    }
    let template = r#"#compdef socket-snoop socket-snoop-full
# zsh completion for socket-snoop(8), MADE

_socket_snoop_filter() {
    case $words[CURRENT-1] in
CASES        pid|tree) _pids ;;
        uid) _users ;;
        netns) _files ;;
        *) compadd -- STARTS ;;
    esac
}

_socket-snoop() {
    # Behind `--` stands a command.
    local at=${words[(i)--]}
    if (( at < CURRENT )); then
        shift $at words
        (( CURRENT -= at ))
        _normal
        return
    fi
    _arguments \
SPECS        '*:filter:_socket_snoop_filter'
}

_socket-snoop "$@"
"#;
    template
        .replace("MADE", MADE)
        .replace("CASES", &cases)
        .replace("STARTS", &starts())
        .replace("SPECS", &specs)
}

pub(super) fn fish() -> String {
    let mut lines = String::new();
    for flag in flags() {
        let _ = write!(lines, "complete -c socket-snoop -n '{NOT}'");
        if let Some(short) = flag.short {
            let _ = write!(lines, " -s {short}");
        }
        let _ = write!(lines, " -l {}", flag.long.trim_start_matches("--"));
        let takes = match (&flag.values, flag.value) {
            (Values::Words(words), _) => format!(" -x -a {}", quoted(&words.join(" "))),
            (Values::Files, _) => " -r -F".into(),
            (Values::Folders, _) => " -x -a '(__fish_complete_directories)'".into(),
            (Values::Users, _) => " -x -a '(__fish_complete_users)'".into(),
            (Values::Processes, _) => " -x -a '(__fish_complete_pids)'".into(),
            (Values::Open, Some(_)) => " -x".into(),
            (Values::Open, None) => String::new(),
        };
        let about = flag.about.replace('\\', "\\\\");
        let _ = writeln!(lines, "{takes} -d {}", quoted(&about));
    }
    let mut cases = String::new();
    for (words, values) in after() {
        let words = words.join(" ");
        let _ = writeln!(
            cases,
            "        case {words}\n            string split ' ' '{values}'"
        );
    }
    let template = r#"# fish completion for socket-snoop(8), MADE

# Whether a command stands here, behind `--`.
function __socket_snoop_command
    contains -- -- (commandline -opc)
end

# What may stand here of a filter.
function __socket_snoop_filter
    set -l words (commandline -opc)
    switch $words[-1]
CASES        case pid tree
            __fish_complete_pids
        case uid
            __fish_complete_users
        case netns
            __fish_complete_path (commandline -ct)
        case --help
            echo filter
        case '*'
            string split ' ' 'STARTS'
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
LINES"#;
    template
        .replace("MADE", MADE)
        .replace("CASES", &cases)
        .replace("STARTS", &starts())
        .replace("LINES", &lines)
}

/// When a flag may stand, to fish.
const NOT: &str = "not __socket_snoop_command";
