//! Live: `--top` in a terminal (tmux), on one that obeys nothing, and on none.
//!
//! Contract: what a test reads is what stands on the screen. Each terminal has a tmux
//! server of its own, which ends with the test.

mod common;

use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

use story::story;

use common::{TempDir, live, net, skip, wait};

/// How long something may take to be seen: the machine has more to do.
const PATIENCE: Duration = Duration::from_secs(30);

/// Whether there is a terminal to be had.
fn has_tmux() -> bool {
    let asked = Command::new("tmux").arg("-V").output();
    let there = asked.is_ok_and(|output| output.status.success());
    if !there {
        skip("no tmux");
    }
    there
}

/// A terminal.
struct Terminal {
    dir: TempDir,
}

impl Terminal {
    /// One of 80 by 24 that runs a shell's lines; `@` is the program with its usual
    /// arguments.
    fn run(lines: &str, filter: &str) -> Terminal {
        let dir = TempDir::new();
        let command = format!(
            "{} --top 0.2 --sandbox=strict '{filter}'",
            common::full().to_str().expect("a path")
        );
        let script = dir.join("script");
        fs::write(&script, lines.replace('@', &command)).expect("write the script");
        let settings = "set -g status off\nset -g remain-on-exit on\n";
        fs::write(dir.join("tmux.conf"), settings).expect("write the settings");
        let terminal = Terminal { dir };
        let shell = format!(
            "cd {} && exec bash --norc --noprofile {}",
            terminal.dir.path().display(),
            script.display()
        );
        let size = ["-x", "80", "-y", "24"];
        terminal.tmux(&[&["new-session", "-d"], &size[..], &[&shell]].concat());
        terminal
    }

    /// Gives tmux a command; what it says.
    fn tmux(&self, args: &[&str]) -> String {
        let mut tmux = Command::new("tmux");
        tmux.arg("-S").arg(self.dir.join("socket"));
        tmux.arg("-f").arg(self.dir.join("tmux.conf"));
        tmux.args(args).stdin(Stdio::null());
        for name in ["TMUX", "NO_COLOR", "SOCKET_SNOOP_LOG"] {
            tmux.env_remove(name);
        }
        let output = {
            let _forking = net::forking();
            tmux.output().expect("run tmux")
        };
        assert!(output.status.success(), "{args:?}: {output:?}");
        String::from_utf8(output.stdout).expect("UTF-8")
    }

    /// The lines of the screen.
    fn screen(&self) -> Vec<String> {
        let text = self.tmux(&["capture-pane", "-p"]);
        text.lines()
            .map(|line| line.trim_end().to_string())
            .collect()
    }

    /// Waits for a screen that has what is wanted.
    fn until(&self, what: &str, mut done: impl FnMut(&[String]) -> bool) -> Vec<String> {
        let mut screen = Vec::new();
        let seen = wait::within(PATIENCE, || {
            screen = self.screen();
            done(&screen)
        });
        assert!(seen, "never seen: {what}:\n{}", screen.join("\n"));
        screen
    }

    fn press(&self, key: &str) {
        self.tmux(&["send-keys", key]);
    }

    fn resize(&self, columns: &str, lines: &str) {
        self.tmux(&["resize-window", "-x", columns, "-y", lines]);
    }

    /// Whether the other screen is shown, and whether a cursor is.
    fn modes(&self) -> String {
        let asked = self.tmux(&["display-message", "-p", "#{alternate_on} #{cursor_flag}"]);
        asked.trim().to_string()
    }

    /// What a line of the script has written.
    fn written(&self, name: &str) -> String {
        let path: PathBuf = self.dir.join(name);
        let mut text = String::new();
        let there = wait::within(PATIENCE, || {
            text = fs::read_to_string(&path).unwrap_or_default();
            text.ends_with('\n')
        });
        assert!(there, "no {name}:\n{}", self.screen().join("\n"));
        text.trim().to_string()
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        let mut tmux = Command::new("tmux");
        tmux.arg("-S")
            .arg(self.dir.join("socket"))
            .arg("kill-server");
        let _ = tmux.stderr(Stdio::null()).status();
    }
}

/// A server, and a place where nobody listens.
struct Traffic {
    server: TcpListener,
    place: SocketAddr,
    nobody: SocketAddr,
    filter: String,
    open: Vec<TcpStream>,
}

impl Traffic {
    fn new() -> Traffic {
        let server = net::listen(net::own_ip());
        let place = server.local_addr().expect("its address");
        let nobody = SocketAddr::new(place.ip(), 9);
        Traffic {
            server,
            place,
            nobody,
            filter: format!("host {}", place.ip()),
            open: Vec::new(),
        }
    }

    /// Opens a connection that stays.
    fn open(&mut self) {
        self.open
            .push(TcpStream::connect(self.place).expect("connect"));
        self.open.push(self.server.accept().expect("accept").0);
    }

    /// Has one refused.
    fn refused(&self) {
        TcpStream::connect(self.nobody).expect_err("nobody listens");
    }

    /// One with data, closed in order.
    fn whole(&self) {
        let mut client = TcpStream::connect(self.place).expect("connect");
        let (mut accepted, _) = self.server.accept().expect("accept");
        client.write_all(&[b'x'; 3000]).expect("send");
        client
            .shutdown(std::net::Shutdown::Write)
            .expect("shut down");
        accepted.read_to_end(&mut Vec::new()).expect("read");
        drop(accepted);
        net::drain(client);
    }
}

/// Whether a screen has its first line and its last one, which is this.
fn is_whole(screen: &[String], lines: usize) -> bool {
    let foot = screen.get(lines - 1);
    screen[0].starts_with("socket-snoop  ")
        && foot.is_some_and(|foot| foot.starts_with("[1 processes]"))
}

/// The text of a column in the row that has a word in it.
fn cell(screen: &[String], title: &str, word: &str) -> Option<String> {
    let (at, head) = screen.iter().enumerate().find(|(_, line)| {
        let mut words = line.split([' ', '<', '>']);
        words.any(|word| word == title)
    })?;
    // Figures stand to the right, below their title's end.
    let end = head.find(title)? + title.len();
    let row = screen[at + 1..].iter().find(|line| line.contains(word))?;
    let text = row.get(..end.min(row.len()))?;
    text.rsplit(' ').next().map(str::to_string)
}

/// Whether a row has so many open connections, whose other ends are its own, too: of
/// these it need not be known who has accepted them.
fn has_open(screen: &[String], word: &str, count: u32) -> bool {
    let open = cell(screen, "ESTAB", word).and_then(|text| text.parse().ok());
    open.is_some_and(|open: u32| (count..=2 * count).contains(&open))
}

/// A row of its own process.
fn own_row() -> String {
    let name = fs::read_to_string("/proc/self/comm").expect("its name");
    format!("{:>8} {}", std::process::id(), &name.trim()[..8])
}

#[story]
fn a_table_that_obeys_keys() {
    if !live() || !has_tmux() {
        return;
    }
    let mut traffic = Traffic::new();
    let lines = "stty -g > before\n@\necho $? > code\nstty -g > after\nread -r _\n";
    let terminal = Terminal::run(lines, &traffic.filter);
    let own = own_row();
    let screen = terminal.until("the first frame", |screen| {
        screen.iter().any(|line| line.contains("PROCESS"))
    });
    assert_eq!(screen.len(), 24);
    assert!(screen[23].starts_with("[1 processes]") || screen[23].starts_with("socket-snoop: "));
    assert_eq!(terminal.modes(), "1 0");

    (0..3).for_each(|_| traffic.open());
    (0..2).for_each(|_| traffic.refused());
    traffic.whole();
    let screen = terminal.until("what is open, and what failed", |screen| {
        has_open(screen, &own, 3) && screen[2].starts_with("2 failed: 2 refused")
    });
    assert!(screen.iter().all(|line| line.len() <= 80), "{screen:#?}");
    assert!(
        screen[1].starts_with("6 open: 6 established, "),
        "{}",
        screen[1]
    );

    // The other views.
    terminal.press("2");
    let (out, ip) = (format!(">{}", traffic.place), traffic.place.ip());
    let peers = terminal.until("peers", |screen| {
        cell(screen, "ESTAB", &out) == Some("3".into())
    });
    let came = format!(" :{}", traffic.place.port());
    assert_eq!(cell(&peers, "ESTAB", &came), Some("3".into()), "{peers:#?}");
    let nobody = format!(">{ip}:9 ");
    assert!(
        peers.iter().any(|line| line.contains(&nobody)),
        "{peers:#?}"
    );
    terminal.press("Tab");
    let place = traffic.place.to_string();
    terminal.until("listeners", |screen| {
        screen[3].contains("LISTENER") && cell(screen, "ESTAB", &place) == Some("3".into())
    });
    terminal.press("4");
    let connections = terminal.until("connections", |screen| {
        let of = |state: &str| screen.iter().filter(|line| line.contains(state)).count();
        screen[3].contains("CONNECTION") && of(" ESTABLISHED ") == 6
    });
    let from_here = format!(" > {place} ");
    assert!(
        connections.iter().any(|line| line.contains(&from_here)),
        "{connections:#?}"
    );

    // Another order, and back; the help.
    terminal.press("1");
    terminal.until("sorted by what is open", |screen| {
        screen[3].contains(">ESTAB")
    });
    terminal.press("s");
    terminal.until("sorted by the next column", |screen| {
        screen[3].contains(">SYN")
    });
    terminal.press("r");
    terminal.until("the other way round", |screen| screen[3].contains("<SYN"));
    terminal.press("Left");
    terminal.until("sorted as before", |screen| screen[3].contains(">ESTAB"));
    terminal.press("h");
    terminal.until("the help", |screen| screen[3] == "Keys");
    terminal.press("h");
    terminal.until("the table", |screen| screen[3].contains(">ESTAB"));

    // Nothing moves in a pause, and nothing of it is missing afterwards.
    terminal.press("Space");
    terminal.until("a pause", |screen| screen[0].contains("PAUSED"));
    traffic.refused();
    traffic.open();
    terminal.press("C-l");
    let screen = terminal.screen();
    assert!(
        screen[1].starts_with("6 open: ") && screen[2].starts_with("2 failed: "),
        "{screen:#?}"
    );
    terminal.press("p");
    terminal.until("what there was meanwhile", |screen| {
        has_open(screen, &own, 4) && screen[2].starts_with("3 failed: 3 refused")
    });

    // Wide, and narrow.
    terminal.resize("120", "30");
    let screen = terminal.until("a large screen", |screen| {
        is_whole(screen, 30) && screen[3].len() > 80
    });
    assert!(screen[3].ends_with("REFUSED RESET TIMEOUT"), "{screen:#?}");
    assert_eq!(
        cell(&screen, "REFUSED", &own),
        Some("3".into()),
        "{screen:#?}"
    );
    terminal.resize("40", "10");
    let screen = terminal.until("a small screen", |screen| {
        is_whole(screen, 10) && has_open(screen, &own, 4)
    });
    assert!(screen.iter().all(|line| line.len() <= 40), "{screen:#?}");

    terminal.press("q");
    assert_eq!(terminal.written("code"), "0");
    assert_eq!(terminal.written("after"), terminal.written("before"));
    assert_eq!(terminal.modes(), "0 1");
}

/// Whatever ends it, the terminal is as it was.
#[story]
fn the_terminal_is_given_back() {
    if !live() || !has_tmux() {
        return;
    }
    let traffic = Traffic::new();
    // Stopped by Ctrl-Z, continued; then ended by a signal, by Ctrl-C, and by a
    // duration.
    let lines = "set -m\nstty -g > before\n\
                 @\nstty -g > stopped\nfg\necho $? > code1\nstty -g > after1\n\
                 @\necho $? > code2\nstty -g > after2\n\
                 @ --duration 0.5\necho $? > code3\nstty -g > after3\nread -r _\n";
    let terminal = Terminal::run(lines, &traffic.filter);
    let shown = |screen: &[String]| screen.len() == 24 && screen[3].contains("PROCESS");
    terminal.until("the table", shown);
    let before = terminal.written("before");
    terminal.press("C-z");
    assert_eq!(terminal.written("stopped"), before);
    terminal.until("the table again", |screen| {
        shown(screen) && terminal.modes() == "1 0"
    });
    let pids = Command::new("pgrep")
        .arg("-f")
        .arg(&traffic.filter)
        .output();
    let pids = String::from_utf8(pids.expect("pgrep").stdout).expect("numbers");
    let is_it = |pid: &&str| {
        let exe = fs::read_link(format!("/proc/{pid}/exe"));
        let program = fs::canonicalize(common::full());
        exe.is_ok_and(|exe| program.is_ok_and(|program| program == exe))
    };
    let pid = pids.lines().find(is_it).expect("it runs");
    let pid = nix::unistd::Pid::from_raw(pid.parse().expect("a number"));
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM).expect("end it");
    assert_eq!(terminal.written("code1"), "0");
    assert_eq!(terminal.written("after1"), before);
    terminal.until("the second table", |screen| {
        shown(screen) && terminal.modes() == "1 0"
    });
    terminal.press("C-c");
    assert_eq!(terminal.written("code2"), "0");
    assert_eq!(terminal.written("after2"), before);
    assert_eq!(terminal.written("code3"), "0");
    assert_eq!(terminal.written("after3"), before);
    assert_eq!(terminal.modes(), "0 1");
}

/// Colours are for terminals, and for those who want them.
#[story]
fn colours_can_be_left_out() {
    if !live() || !has_tmux() {
        return;
    }
    for (set, colours) in [("", true), ("NO_COLOR=1 ", false)] {
        let traffic = Traffic::new();
        let terminal = Terminal::run(&format!("{set}@\nread -r _\n"), &traffic.filter);
        terminal.until("the table", |screen| {
            screen.iter().any(|line| line.contains("PROCESS"))
        });
        terminal.press("4");
        traffic.refused();
        terminal.until("what failed", |screen| {
            screen.iter().any(|line| line.contains(" refused "))
        });
        let screen = terminal.tmux(&["capture-pane", "-p", "-e"]);
        assert_eq!(
            screen.contains("\x1b[31m"),
            colours,
            "{}",
            screen.escape_debug()
        );
        let any = (0..8).any(|n| screen.contains(&format!("\x1b[3{n}m")));
        assert_eq!(any, colours, "{}", screen.escape_debug());
    }
}

/// What obeys no escapes gets none, and what is no terminal neither.
#[story]
fn blocks_where_there_is_no_screen() {
    if !live() || !has_tmux() {
        return;
    }
    let mut traffic = Traffic::new();
    let lines = "stty -g > before\nTERM=dumb @\necho $? > code\nstty -g > after\nread -r _\n";
    let terminal = Terminal::run(lines, &traffic.filter);
    let bytes = terminal.dir.join("bytes");
    terminal.tmux(&["pipe-pane", "-o", &format!("cat > {}", bytes.display())]);
    let blocks = |text: &str| text.matches("PROCESS").count();
    terminal.until("blocks", |screen| blocks(&screen.join("\n")) >= 2);
    traffic.open();
    let own = own_row();
    terminal.until("what is open", |screen| {
        let last = screen.iter().rposition(|line| line.contains("PROCESS"));
        last.is_some_and(|at| has_open(&screen[at..], &own, 1))
    });
    assert_eq!(terminal.modes(), "0 1");
    terminal.press("q");
    assert_eq!(terminal.written("code"), "0");
    assert_eq!(terminal.written("after"), terminal.written("before"));
    let bytes = fs::read(bytes).expect("what it wrote");
    assert!(!bytes.contains(&0x1b), "{}", bytes.escape_ascii());

    // Into a pipe: more columns, more rows, and the day.
    let run = common::Run::of(common::full(), "--top 0.2 --duration 2 --no-log");
    let out = run.arg(&traffic.filter).run().ok();
    assert!(blocks(&out.stdout) >= 3, "{}", out.stdout);
    assert!(
        out.stdout.contains("REFUSED RESET TIMEOUT\n"),
        "{}",
        out.stdout
    );
    let plain = |c: char| c == '\n' || (' '..='~').contains(&c);
    assert!(
        out.stdout.chars().all(plain),
        "{}",
        out.stdout.escape_debug()
    );
}

/// What was recorded is a table, too, at whatever pace; without a terminal and without
/// rights.
#[test]
fn a_recording_is_a_table_too() {
    let dir = TempDir::new();
    let lines = include_str!("../schema/sample.jsonl");
    let path = dir.join("recorded");
    fs::write(&path, lines).expect("write the recording");
    let run = common::Run::of(common::full(), "--top 1 --speed max --no-log -r");
    let out = run.arg(&path).run().ok();
    let last = out.stdout.rsplit("\n\n").next().expect("a block");
    assert!(last.starts_with("socket-snoop  "), "{}", out.stdout);
    assert!(last.contains(" failed: "), "{last}");
}
