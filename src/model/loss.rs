//! What is missing from the stream, and why.

/// Why something is missing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// The CPU's ring was full.
    RingFull,
    /// The program could not send the event, such as on a CPU without a ring.
    OutputFailed,
    /// The kernel did not run the program because another one was active.
    Recursion,
    /// A record that could not be read.
    Unreadable,
    /// Lines that standard output did not take in time.
    ConsoleSlow,
    /// Lines that standard output did not take.
    ConsoleWrite,
    /// Lines that the log file, or the reader of a FIFO, did not take in time.
    LogSlow,
    /// Lines that the log file did not take.
    LogWrite,
    /// Not events, but owners: the kernel's table of them was full.
    OwnersFull,
    /// Not events, but what became of tasks: a ring, or the table, was full.
    TasksFull,
    /// Nor here: the owners of so many listeners found no room in the maps that
    /// their children are looked up in.
    ListenersFull,
    /// Not events, but connections: too many were open.
    ConnectionsFull,
    /// Events that came, but without what belongs to their socket: it was told
    /// before, and is not held any more.
    CardMissing,
}

impl Reason {
    /// Whether no event is missing for it.
    pub fn spares_events(self) -> bool {
        matches!(
            self,
            Reason::OwnersFull | Reason::TasksFull | Reason::ListenersFull
        )
    }

    /// All of them.
    pub(crate) const ALL: [Reason; 13] = [
        Reason::RingFull,
        Reason::OutputFailed,
        Reason::Recursion,
        Reason::Unreadable,
        Reason::ConsoleSlow,
        Reason::ConsoleWrite,
        Reason::LogSlow,
        Reason::LogWrite,
        Reason::OwnersFull,
        Reason::TasksFull,
        Reason::ListenersFull,
        Reason::ConnectionsFull,
        Reason::CardMissing,
    ];

    /// Whether what is missing are events.
    pub(crate) fn is_of_events(self) -> bool {
        matches!(
            self,
            Reason::RingFull | Reason::OutputFailed | Reason::Recursion | Reason::Unreadable
        )
    }

    /// Its name in the output.
    pub fn name(self) -> &'static str {
        match self {
            Reason::RingFull => "ring_full",
            Reason::OutputFailed => "output_failed",
            Reason::Recursion => "recursion",
            Reason::Unreadable => "unreadable",
            Reason::ConsoleSlow => "console_slow",
            Reason::ConsoleWrite => "console_write",
            Reason::LogSlow => "log_slow",
            Reason::LogWrite => "log_write",
            Reason::OwnersFull => "owners_full",
            Reason::TasksFull => "tasks_full",
            Reason::ListenersFull => "listeners_full",
            Reason::ConnectionsFull => "connections_full",
            Reason::CardMissing => "card_missing",
        }
    }
}

/// Something is missing from the stream here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lost {
    /// When it was noticed, in nanoseconds since the epoch.
    pub wall: u64,
    /// The CPU it happened on, where it can be told.
    pub cpu: Option<u32>,
    /// How many events (or lines, owners, connections, or records of tasks).
    pub count: u64,
    /// Why.
    pub reason: Reason,
}
