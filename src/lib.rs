//! socket-snoop: live TCP connection tracing from one static binary.
