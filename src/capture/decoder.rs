//! A tracepoint's record, as a plain perf sample brings it, into an event.
//!
//! Contract: where a field lies comes from the host's `format` file; which
//! fields are wanted, how wide they may be and which can be absent is taken
//! from the programs of bpf-asm/ on the same tracepoints, so that both ways
//! accept the same kernels. Whatever the record holds, nothing panics.

use crate::bpf::wire::{DecodeError, addresses};
use crate::bpf_link::{HostField, LinkError, Template, is_member};
use crate::error::{Error, Kind};
use crate::model::event::{Counters, Event, Task, What};
use crate::model::tcp::{Endpoint, State, Wire};
use crate::order::{Order, Value};
use crate::tracepoint::{Format, Tracepoint};
use std::net::{IpAddr, Ipv6Addr};

/// Bits of common_flags that say that the event did not run in the context of
/// the task on the CPU (v6.12 include/linux/trace_events.h, enum
/// trace_flag_type): TRACE_FLAG_HARDIRQ, SOFTIRQ and NMI, and BH_OFF (5.18):
/// there a kernel thread may be at work for the network (threaded NAPI), or
/// another process (a TUN device's user).
const INTERRUPT: u8 = 0x08 | 0x10 | 0x40 | 0x80;

const IPPROTO_TCP: u64 = 6;

/// The ends of an event that has none, as the programs send them.
const NOWHERE: (Wire, Endpoint, Endpoint) = {
    let addr = IpAddr::V6(Ipv6Addr::UNSPECIFIED);
    let end = Endpoint { addr, port: 0 };
    (Wire::Ipv6, end, end)
};

/// A number in the record.
#[derive(Clone, Copy, Debug)]
struct Number {
    offset: usize,
    size: usize,
}

impl Number {
    fn read(self, record: &[u8], order: Order) -> Option<u64> {
        let bytes = record.get(self.offset..self.offset + self.size)?;
        let mut wide = [0; 8];
        let place = match order {
            Order::Little => wide.get_mut(..bytes.len()),
            Order::Big => wide
                .len()
                .checked_sub(bytes.len())
                .map(|at| &mut wide[at..]),
        };
        place?.copy_from_slice(bytes);
        Some(u64::read(&wide, order))
    }
}

/// Where one tracepoint's record has what.
#[derive(Debug)]
struct Layout {
    id: u32,
    flags: Number,
    /// The thread id of the task on the CPU in the initial PID namespace.
    pid: Number,
    socket: Number,
    kind: LayoutKind,
    /// `None` where nobody reads them.
    ends: Option<Ends>,
}

/// Where a record has the socket's two ends, the local one first.
#[derive(Debug)]
struct Ends {
    ports: [Number; 2],
    family: Option<Number>,
    addresses: [usize; 2],
}

#[derive(Debug)]
enum LayoutKind {
    State {
        old: Number,
        new: Number,
        protocol: Number,
    },
    Retransmit {
        state: Option<Number>,
        err: Option<Number>,
    },
    SynAck,
    ResetSent {
        reason: Option<Number>,
    },
    ResetReceived,
    Destroy {
        cookie: Number,
    },
}

/// A decoded record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Decoded {
    /// The event, without a task and an owner.
    pub event: Event,
    /// Whether it ran in the context of the task on the CPU, as far as the
    /// record says.
    pub own_context: bool,
    /// The thread id of the task on the CPU in the initial PID namespace; 0 is
    /// the idle task.
    pub tid: u32,
}

/// Tells the tracepoints' records apart and reads them.
#[derive(Debug, Default)]
pub struct Decoder {
    order: Order,
    /// Where every record has its tracepoint's id.
    common_type: Option<Number>,
    layouts: Vec<Layout>,
    longest: usize,
}

/// The fields of a tracepoint that are wanted.
struct Fields<'a> {
    format: &'a Format,
    template: &'a Template,
}

impl Fields<'_> {
    /// A field of the template, by name; checked as the template says.
    fn find(&self, name: &str) -> Result<Option<HostField>, LinkError> {
        let missing = || LinkError::MissingField {
            field: name.to_owned(),
            tracepoint: format!("{}:{}", self.template.group, self.template.event),
        };
        let mut fields = self.template.fields.iter();
        let wanted = fields.find(|f| f.name == name && !is_member(&f.name));
        let wanted = wanted.ok_or_else(missing)?;
        match self.format.host_field(name) {
            None if wanted.optional => Ok(None),
            None => Err(missing()),
            Some(found) if wanted.widths.contains(&found.size) => Ok(Some(found)),
            Some(found) => Err(LinkError::Width {
                field: name.to_owned(),
                wanted: wanted.widths.to_vec(),
                has: found.size,
            }),
        }
    }

    fn optional(&self, name: &str) -> Result<Option<Number>, LinkError> {
        Ok(self.find(name)?.map(number))
    }

    fn needed(&self, name: &str) -> Result<HostField, LinkError> {
        self.find(name)?.ok_or_else(|| LinkError::MissingField {
            field: name.to_owned(),
            tracepoint: format!("{}:{}", self.template.group, self.template.event),
        })
    }

    fn number(&self, name: &str) -> Result<Number, LinkError> {
        self.needed(name).map(number)
    }

    /// A field that every tracepoint has, and no program reads.
    fn common(&self, name: &str, size: u16) -> Result<Number, LinkError> {
        let field = name.to_owned();
        match self.format.host_field(name) {
            Some(found) if found.size == size => Ok(number(found)),
            Some(found) => Err(LinkError::Width {
                field,
                wanted: vec![size],
                has: found.size,
            }),
            None => Err(LinkError::MissingField {
                field,
                tracepoint: format!("{}:{}", self.template.group, self.template.event),
            }),
        }
    }

    /// What the record of this tracepoint means.
    fn kind(&self) -> Result<Option<LayoutKind>, LinkError> {
        Ok(Some(match self.template.event.as_str() {
            "inet_sock_set_state" => LayoutKind::State {
                old: self.number("oldstate")?,
                new: self.number("newstate")?,
                protocol: self.number("protocol")?,
            },
            "tcp_retransmit_skb" => LayoutKind::Retransmit {
                state: self.optional("state")?,
                err: self.optional("err")?,
            },
            "tcp_retransmit_synack" => LayoutKind::SynAck,
            "tcp_send_reset" => LayoutKind::ResetSent {
                reason: self.optional("reason")?,
            },
            "tcp_receive_reset" => LayoutKind::ResetReceived,
            "tcp_destroy_sock" => LayoutKind::Destroy {
                cookie: self.number("sock_cookie")?,
            },
            _ => return Ok(None),
        }))
    }

    fn ends(&self) -> Result<Option<Ends>, LinkError> {
        if !self.template.fields.iter().any(|f| f.name == "sport") {
            return Ok(None);
        }
        Ok(Some(Ends {
            ports: [self.number("sport")?, self.number("dport")?],
            family: self.optional("family")?,
            addresses: [
                usize::from(self.needed("saddr_v6")?.offset),
                usize::from(self.needed("daddr_v6")?.offset),
            ],
        }))
    }

    fn layout(&self, id: u32, kind: LayoutKind) -> Result<Layout, LinkError> {
        Ok(Layout {
            id,
            flags: self.common("common_flags", 1)?,
            pid: self.common("common_pid", 4)?,
            socket: self.number("skaddr")?,
            kind,
            ends: self.ends()?,
        })
    }
}

impl Ends {
    fn read(&self, record: &[u8], order: Order) -> Result<(Wire, Endpoint, Endpoint), DecodeError> {
        let read = |number: Number| number.read(record, order).ok_or(DecodeError::Short);
        let address = |at: usize| {
            let bytes = record.get(at..at + 16).and_then(|b| b.try_into().ok());
            bytes.ok_or(DecodeError::Short)
        };
        let family = self.family.map(read).transpose()?.map(|f| f as u16);
        let [local, peer] = self.addresses;
        let (wire, local, peer) = addresses(family, address(local)?, address(peer)?);
        let end = |addr, port| {
            let port = read(port)? as u16;
            Ok(Endpoint { addr, port })
        };
        let [local_port, peer_port] = self.ports;
        Ok((wire, end(local, local_port)?, end(peer, peer_port)?))
    }
}

fn number(field: HostField) -> Number {
    Number {
        offset: field.offset.into(),
        size: field.size.into(),
    }
}

impl Decoder {
    /// One for records of a host with this byte order; the default is this one's.
    pub fn of(order: Order) -> Decoder {
        Decoder {
            order,
            ..Decoder::default()
        }
    }

    /// Learns a tracepoint of this host, by the program whose fields are wanted
    /// of it. Fails where a field is missing or has another width; then nothing
    /// has changed. The one that comes most often should be the first.
    pub fn add(&mut self, tracepoint: &Tracepoint, template: &Template) -> Result<(), Error> {
        let format = &tracepoint.format;
        let fields = Fields { format, template };
        let refuse = |why: &dyn std::fmt::Display| {
            let on = format!("{}:{}", template.group, template.event);
            Error::new(
                Kind::Unsupported,
                format!("cannot use tracepoint {on} of this kernel: {why}"),
            )
        };
        let common_type = fields.common("common_type", 2).map_err(|e| refuse(&e))?;
        let known = self.common_type.unwrap_or(common_type);
        if known.offset != common_type.offset {
            return Err(refuse(&"its common_type lies elsewhere than in others"));
        }
        let kind = fields.kind().map_err(|e| refuse(&e))?;
        let kind = kind.ok_or_else(|| refuse(&"its records can only be read by a program"))?;
        let layout = fields.layout(tracepoint.id, kind);
        self.layouts.push(layout.map_err(|e| refuse(&e))?);
        self.common_type = Some(known);
        let ends = format.fields().iter().map(|f| f.offset + f.size);
        self.longest = self.longest.max(ends.max().unwrap_or(0).into());
        Ok(())
    }

    /// Bytes of the longest record.
    pub fn longest(&self) -> usize {
        self.longest
    }

    /// Whether it can be told which retransmissions failed.
    pub fn tells_failures(&self) -> bool {
        let tells = |l: &Layout| matches!(l.kind, LayoutKind::Retransmit { err: Some(_), .. });
        self.layouts.iter().any(tells)
    }

    /// Whether it can be told why resets were sent.
    pub fn tells_reasons(&self) -> bool {
        let tells = |l: &Layout| matches!(l.kind, LayoutKind::ResetSent { reason: Some(_) });
        self.layouts.iter().any(tells)
    }

    /// Decodes a record; `None` where it is not of TCP, or of no socket.
    /// Trailing bytes are passed over.
    pub fn decode(
        &self,
        time: u64,
        cpu: u32,
        record: &[u8],
    ) -> Result<Option<Decoded>, DecodeError> {
        let read = |number: Number| number.read(record, self.order).ok_or(DecodeError::Short);
        let id = read(self.common_type.ok_or(DecodeError::Kind)?)?;
        let mut layouts = self.layouts.iter();
        // An id has 16 bits in a record (kernel/trace/trace.h, TRACE_ITER).
        let layout = layouts
            .find(|l| u64::from(l.id) == id)
            .ok_or(DecodeError::Kind)?;
        let socket = read(layout.socket)?;
        let what = match layout.kind {
            LayoutKind::State { old, new, protocol } => {
                if read(protocol)? != IPPROTO_TCP {
                    return Ok(None);
                }
                let old = state(read(old)?).ok_or(DecodeError::State)?;
                let new = state(read(new)?).ok_or(DecodeError::State)?;
                What::State { old, new }
            }
            LayoutKind::Retransmit { state: now, err } => What::Retransmit {
                kind: None,
                state: now.map(read).transpose()?.and_then(state),
                error: match err.map(read).transpose()?.unwrap_or(0) as i32 {
                    0 => None,
                    err => Some(err.checked_neg().unwrap_or(i32::MAX)),
                },
                total: None,
            },
            LayoutKind::SynAck => What::SynAck,
            // An answer to a segment that no socket was meant by.
            LayoutKind::ResetSent { .. } | LayoutKind::ResetReceived if socket == 0 => {
                return Ok(None);
            }
            LayoutKind::ResetSent { reason } => What::ResetSent {
                reason: reason.map(read).transpose()?.map(|number| number as u32),
            },
            LayoutKind::ResetReceived => What::ResetReceived,
            LayoutKind::Destroy { cookie } => What::Destroyed {
                cookie: read(cookie)?,
            },
        };
        let (wire, local, peer) = match &layout.ends {
            Some(ends) => ends.read(record, self.order)?,
            None => NOWHERE,
        };
        let event = Event {
            time,
            cpu,
            socket,
            on_cpu: Task::default(),
            owner: None,
            netns: None,
            what,
            local,
            peer,
            wire,
            counters: Counters::default(),
            last: false,
        };
        Ok(Some(Decoded {
            event,
            own_context: read(layout.flags)? as u8 & INTERRUPT == 0,
            tid: read(layout.pid)? as u32,
        }))
    }
}

fn state(number: u64) -> Option<State> {
    u8::try_from(number).ok().and_then(State::from_number)
}
