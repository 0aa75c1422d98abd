//! `--top`: a live table on the terminal, of processes, peers, listeners or connections.
//!
//! Contract: it is drawn once in each interval, and at once after a key. What the
//! terminal was set to is set back, whatever the end. A terminal that obeys no escapes
//! (`TERM=dumb`), or what is none, gets plain blocks. Text from outside is escaped
//! where it becomes text of a row.

mod columns;
mod figures;
mod frame;
mod groups;
mod keys;
mod model;
mod rows;
mod screen;

use crate::cli::Config;
use crate::error::Error;
use crate::filter::tree::Expr;
use crate::lifecycle::connection::Connection;
use crate::model::loss::Lost;
use crate::model::text::cut;
use crate::output::notice;
use crate::output::{Picture, Record, Shown, Summary, Visit};
use crate::sys::signal;
use crate::sys::terminal::{self, Terminal};
use frame::{Face, Size};
use keys::{Key, Keys};
use model::Model;
use nix::fcntl::{OFlag, open as open_file};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::stat::Mode;
use nix::unistd::read;
use screen::Screen;
use std::io::IsTerminal;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

/// How often it is drawn, where nothing else is asked for.
const INTERVAL: Duration = Duration::from_secs(2);

/// The size of a terminal that does not tell it, such as a serial console.
const USUAL: (usize, usize) = (24, 80);

/// For how long a line for a person is shown, in nanoseconds.
const SAID: u64 = 10_000_000_000;

/// How wide plain blocks are that no terminal shows.
const WIDE: usize = 160;

/// The table.
struct Top {
    model: Model,
    face: Face,
    screen: Screen,
    keys: Keys,
    /// The terminal whose keys are taken.
    terminal: Option<Terminal>,
    /// Whether that is set up.
    entered: bool,
    /// Whether there is a terminal to draw on.
    shown: bool,
    /// What is shown, once there is something.
    sight: Option<frame::Sight>,
    interval: u64,
    /// When the interval ends, and when the first one began.
    next: u64,
    began: u64,
    /// Until when it shows what was said to a person; 0 before the first frame.
    said_until: u64,
    /// Whether there is something to be drawn before that.
    due: bool,
}

/// The terminal that keys come from: standard input, else that of the session.
fn keys() -> Option<OwnedFd> {
    let input = terminal::input();
    if input.is_terminal() {
        return input.try_clone_to_owned().ok();
    }
    let flags = OFlag::O_RDONLY | OFlag::O_NOCTTY | OFlag::O_CLOEXEC;
    open_file("/dev/tty", flags, Mode::empty()).ok()
}

/// Opens the table that `--top` asks for. Nothing is drawn yet.
pub fn open(config: &Config) -> Result<Box<dyn Picture>, Error> {
    let shown = std::io::stdout().is_terminal();
    let set = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty());
    let obeys = set("TERM").is_some_and(|term| term != "dumb" && term != "unknown");
    let terminal = match shown {
        true => keys().and_then(|keys| Terminal::of(keys).ok()),
        false => None,
    };
    let interval = config.top.unwrap_or(INTERVAL);
    let filter = (config.filter.expr != Expr::All).then(|| config.filter.expr.text());
    if terminal.is_some() {
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            terminal::restore();
            before(info);
        }));
        // Without that a screen is only drawn anew by Ctrl-L.
        let _ = signal::watch_continuing();
    }
    let millis = u64::try_from(interval.as_millis()).unwrap_or(u64::MAX / 1000);
    Ok(Box::new(Top {
        model: Model::new(),
        face: Face::new(millis.min(u64::MAX / 1000), filter.as_deref()),
        screen: Screen::new(shown && obeys, set("NO_COLOR").is_none()),
        keys: Keys::default(),
        terminal,
        entered: false,
        shown,
        sight: None,
        interval: u64::try_from(interval.as_nanos())
            .unwrap_or(u64::MAX)
            .max(1),
        next: 0,
        began: 0,
        said_until: 0,
        due: false,
    }))
}

impl Top {
    fn size(&self) -> Size {
        let (lines, columns) = match self.shown {
            true => terminal::size(std::io::stdout().as_fd()).unwrap_or(USUAL),
            false => (usize::MAX, WIDE),
        };
        Size {
            lines,
            columns,
            block: !self.screen.obeys(),
        }
    }

    fn enter(&mut self) {
        self.entered = true;
        if let Some(terminal) = &self.terminal {
            terminal.enter(self.screen.obeys());
        }
    }

    /// Shows what is said to a person meanwhile, and not for ever. Of what was said
    /// before the first frame only warnings.
    fn listen(&mut self, now: u64) {
        let begun = self.said_until > 0;
        let said = notice::take_held();
        if let Some(said) = said.filter(|said| begun || cut(said, ": warning: ").is_some()) {
            self.face.said = Some(said);
            self.said_until = now.saturating_add(SAID);
        } else if now >= self.said_until {
            self.face.said = None;
            self.said_until = self.said_until.max(1);
        }
    }

    fn pressed(&mut self, key: Key) -> bool {
        let face = &mut self.face;
        face.said = None;
        match key {
            Key::Quit => return true,
            Key::View(view) => (face.view, face.first, face.help) = (view, 0, false),
            Key::NextView => (face.view, face.first, face.help) = ((face.view + 1) % 4, 0, false),
            Key::Sort(right) => face.sort_by(right),
            Key::Reverse => face.sorts[face.view].1 ^= true,
            Key::Pause => face.paused ^= true,
            Key::Help => face.help ^= true,
            Key::Scroll(by) => {
                let page = self.size().lines.clamp(7, 1 << 16) - 6;
                let by = match by {
                    Key::PAGE => page as isize,
                    by if by == -Key::PAGE => -(page as isize),
                    by => by,
                };
                let face = &mut self.face;
                face.first = face.first.saturating_add_signed(by);
            }
            Key::Repaint => self.screen.forget(),
            Key::Suspend => {
                Terminal::suspend();
                self.screen.given_back();
                self.resized();
            }
        }
        self.due = true;
        false
    }
}

impl Picture for Top {
    fn event(&mut self, shown: &Shown<'_>, connection: Option<&Connection>, _: &mut Vec<u8>) {
        self.model.event(shown.event, connection, shown.segments);
    }

    fn record(&mut self, record: &Record<'_>, _: &mut Vec<u8>) {
        self.model.ended(record);
    }

    fn lost(&mut self, lost: &Lost, _: &mut Vec<u8>) {
        self.model.lost(lost);
    }

    fn due(&self) -> u64 {
        match (self.due, self.face.paused) {
            (true, _) => 0,
            (false, true) => u64::MAX,
            (false, false) => self.next,
        }
    }

    fn draw(&mut self, now: u64, wall: u64, open: &mut Visit<'_>, to: &mut Vec<u8>) {
        if !self.entered {
            self.enter();
        }
        let over = now >= self.next && !self.face.paused;
        if over || self.sight.is_none() {
            // The clock of recorded lines has no time before the first of them.
            if self.began == 0 {
                self.began = now;
            }
            let rows = self
                .model
                .tick(now, self.face.sorts[model::CONNECTIONS], open);
            self.sight = Some(frame::Sight {
                rows,
                total: self.model.total.clone(),
                lost: self.model.lost,
                elapsed: self.model.elapsed,
                wall,
                up: now.saturating_sub(self.began),
            });
            // What was missed meanwhile is not made up for.
            self.next = self.next.saturating_add(self.interval);
            if self.next <= now {
                self.next = now.saturating_add(self.interval);
            }
        }
        self.due = false;
        self.listen(now);
        let size = self.size();
        if let Some(sight) = self.sight.as_mut().filter(|_| over || self.screen.obeys()) {
            let lines = self.face.lines(sight, &size);
            self.screen.draw(lines, size.columns, to);
        }
    }

    fn keys(&self) -> Option<BorrowedFd<'_>> {
        self.terminal.as_ref().map(Terminal::as_fd)
    }

    fn key(&mut self) -> bool {
        let mut bytes = [0; 64];
        let mut quit = false;
        while let Some(terminal) = &self.terminal {
            let mut ready = [PollFd::new(terminal.as_fd(), PollFlags::POLLIN)];
            if !matches!(poll(&mut ready, PollTimeout::ZERO), Ok(1)) {
                break;
            }
            let count = match read(terminal.as_fd(), &mut bytes) {
                Ok(count @ 1..) => count,
                Err(nix::Error::EINTR | nix::Error::EAGAIN) => break,
                // It is gone.
                _ => return true,
            };
            for byte in bytes.iter().take(count) {
                if let Some(key) = self.keys.take(*byte) {
                    quit |= self.pressed(key);
                }
            }
        }
        quit
    }

    fn resized(&mut self) {
        self.screen.forget();
        self.face.resized();
        // Whoever has stopped and continued it may have set other modes.
        if self.entered {
            self.enter();
        }
        self.due = true;
    }

    fn finish(&mut self, _: &Summary, to: &mut Vec<u8>) {
        self.screen.leave(to);
        terminal::left();
        terminal::restore();
        self.terminal = None;
    }
}
