//! What a connection has counted, wherever that is known from.

use crate::common::event::{self, Value};
use crate::common::life::{exchange, read_then_close, shut_then_read};
use crate::common::preflight::Report;
use crate::common::{Run, Tracer, net};
use crate::suite::Done;

const UP: usize = 10_007;
const DOWN: usize = 50_021;

/// It is exactly what was sent, where the preflight says that it is told; else
/// it is left out. The client closes first: of whose socket it may be unknown
/// whether the server's FIN has come.
pub fn told() -> Done {
    let report = Report::read(&Run::new("--check --format json").run());
    let tells = report.verdict("bytes, segments, RTT") == "yes";
    let listener = net::listen(net::own_ip());
    let server = listener.local_addr().unwrap();
    let tracer = Tracer::json("");
    exchange(&listener, (UP, DOWN), shut_then_read, read_then_close);
    tracer.until(|lines| event::records(&event::objects(lines), server).len() >= 2);
    let all = event::objects(&tracer.stop().ok().lines());
    let records = event::records(&all, server);
    assert_eq!(records.len(), 2, "{records:#?}");
    for record in &records {
        let is_server = event::local(record) == server;
        let (sent, received) = if is_server { (DOWN, UP) } else { (UP, DOWN) };
        let count = |name: &str| record.get(name).map(|n| n.as_u64().expect("a number"));
        let (sent, received) = (
            tells.then_some(sent as u64),
            tells.then_some(received as u64),
        );
        assert_eq!(count("tcp.bytes.sent"), sent, "{record}");
        match count("tcp.bytes.received") {
            None if !is_server => {}
            found => assert_eq!(found, received, "{record}"),
        }
        let more: Vec<&Value> = ["tcp.segments.sent", "tcp.segments.received", "tcp.rtt_us"]
            .iter()
            .filter_map(|name| record.get(*name))
            .collect();
        assert_eq!(more.len(), if tells { 3 } else { 0 }, "{record}");
    }
    Ok(())
}
