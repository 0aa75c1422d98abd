//! The log line, as the original's README shows it.

use super::ends::Ends;
use super::format::{Format, Reasons, Record, Shape, Shown, errno_name};
use super::owners::Owners;
use super::words::{self, elsewhere, owner};
use super::{connection, escape, open};
use crate::lifecycle::connection::Connection;
use crate::lifecycle::open::Open;
use crate::model::event::What;
use crate::model::loss::Lost;
use crate::model::tcp::State;
use crate::model::text::{self, Stamps};
use crate::sys::append::{append, append_piece};
use std::io::Write;

/// `Dec 30 2024 22:05:25.454 State Change: SRC=… DST=… PID=… COMM=… STATE=…`
#[derive(Debug)]
pub struct Classic {
    pub(super) stamps: Stamps,
    ends: Ends,
    owners: Owners,
    pub(super) shape: Shape,
}

impl Classic {
    /// Lines of this shape.
    #[inline]
    pub fn new(shape: Shape) -> Classic {
        Classic {
            stamps: Stamps::default(),
            ends: Ends::new(|out, (local, peer, _)| {
                text::endpoint(out, local);
                append_piece(out, b" DST=");
                text::endpoint(out, peer);
            }),
            owners: Owners::new(
                |out, of, _, _| {
                    owner(out, of);
                    true
                },
                true,
            ),
            shape,
        }
    }

    /// Appends the line of a connection that is open; it is `now` on the event clock.
    pub(super) fn still_open(&mut self, out: &mut Vec<u8>, of: &Open, now: u64) {
        open::classic(&mut self.stamps, out, self.shape, of, now);
    }
}

impl Format for Classic {
    #[inline]
    fn event(&mut self, out: &mut Vec<u8>, shown: &Shown<'_>, _: Option<&Connection>) {
        let event = shown.event;
        let (title, state, error): (&[u8], _, _) = match event.what {
            What::State {
                new: State::Close, ..
            } if shown.time_wait == Some(true) => {
                (b" State Change: SRC=", Some(State::TimeWait), None)
            }
            What::State { new, .. } => (b" State Change: SRC=", Some(new), None),
            What::Retransmit {
                state, error: None, ..
            } => (b" Retransmit: SRC=", state, None),
            What::Retransmit { state, error, .. } => (b" Retransmit Failed: SRC=", state, error),
            What::SynAck => (b" Retransmit: SRC=", Some(State::SynRecv), None),
            What::ResetSent { .. }
            | What::ResetReceived
            | What::Accepted
            | What::Destroyed { .. } => return,
        };
        self.stamps.local(out, shown.wall);
        append(out, title);
        self.ends.append(out, &event.local, &event.peer, event.wire);
        self.owners.append(out, event.owner.as_ref(), None);
        if let Some(state) = state {
            words::state(out, state);
        }
        if let Some(errno) = error {
            append(out, b" ERROR=");
            append(out, errno_name(errno).as_bytes());
        }
        if event.netns != self.shape.netns {
            elsewhere(out, self.shape, event.netns, event.owner.as_ref());
        }
        if self.shape.on_cpu {
            text::number_behind(out, b" ON_CPU=", u64::from(event.on_cpu.pid));
            out.push(b'/');
            escape::comm(out, event.on_cpu.comm());
        }
        append_piece(out, b"\n");
    }

    #[inline]
    fn connection(&mut self, out: &mut Vec<u8>, record: &Record<'_>, reasons: &Reasons) {
        if self.shape.connections {
            let made = (&mut self.stamps, &mut self.owners);
            connection::classic(made, out, self.shape, record, reasons);
        }
    }

    fn lost(&mut self, out: &mut Vec<u8>, lost: &Lost) {
        self.stamps.local(out, lost.wall);
        // Writing to a Vec can't fail.
        let _ = write!(out, " Lost: COUNT={}", lost.count);
        if let Some(cpu) = lost.cpu {
            let _ = write!(out, " CPU={cpu}");
        }
        let _ = writeln!(out, " REASON={}", lost.reason.name());
    }
}
