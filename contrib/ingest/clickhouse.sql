-- The lines of many hosts in ClickHouse, and what one asks of them.
--
-- On a server:
--
--     clickhouse client < clickhouse.sql
--     clickhouse client --query "INSERT INTO socket_snoop (line) FORMAT JSONAsObject" < lines.jsonl
--     clickhouse client --query "SELECT * FROM who_talked_to(address = '10.0.0.7')"
--
-- On one machine, with hosts/NAME.jsonl, one file of JSON lines for each host (as rsyslog-collector.conf
-- writes them), by `clickhouse local --path fleet`:
--
--     INSERT INTO socket_snoop (host, line)
--     SELECT replaceRegexpOne(_file, '[.]jsonl$', ''), text::JSON
--     FROM file('hosts/*.jsonl', LineAsString, 'text String') WHERE isValidJSON(text);
--
-- A line is kept whole in the column `line`. What is asked often has a column of its own; all else is
-- reached by its key: line.tcp.reset.reason. What a line does not know is NULL. `host` is the key
-- host.name, which whoever ships the lines adds, unless the INSERT says it.
--
-- How long lines are kept is up to you:
--
--     ALTER TABLE socket_snoop MODIFY TTL toDateTime(time) + INTERVAL 30 DAY;

CREATE TABLE IF NOT EXISTS socket_snoop (
    line JSON,
    host LowCardinality(String) DEFAULT ifNull(line.host.name.:String, ''),
    time DateTime64(9, 'UTC') MATERIALIZED ifNull(line.time.:`DateTime64(9)`, 0),
    event LowCardinality(String) MATERIALIZED ifNull(line.event.name.:String, ''),
    socket Nullable(String) MATERIALIZED line.socket.id.:String,
    local_address Nullable(String) MATERIALIZED line.network.local.address.:String,
    local_port Nullable(UInt16) MATERIALIZED line.network.local.port.:Int64,
    peer_address Nullable(String) MATERIALIZED line.network.peer.address.:String,
    peer_port Nullable(UInt16) MATERIALIZED line.network.peer.port.:Int64,
    pid Nullable(UInt32) MATERIALIZED line.process.pid.:Int64,
    process LowCardinality(Nullable(String)) MATERIALIZED line.process.name.:String,
    user_id Nullable(UInt32) MATERIALIZED line.user.id.:Int64,
    old_state LowCardinality(Nullable(String)) MATERIALIZED line.tcp.state.old.:String,
    state LowCardinality(Nullable(String)) MATERIALIZED line.tcp.state.new.:String,
    direction LowCardinality(Nullable(String)) MATERIALIZED line.connection.direction.:String,
    cause LowCardinality(Nullable(String)) MATERIALIZED line.connection.cause.:String,
    duration_ns Nullable(Int64) MATERIALIZED line.connection.duration_ns.:Int64,
    connect_ns Nullable(Int64) MATERIALIZED line.tcp.connect_ns.:Int64,
    rtt_us Nullable(Int64) MATERIALIZED line.tcp.rtt_us.:Int64,
    bytes_sent Nullable(Int64) MATERIALIZED line.tcp.bytes.sent.:Int64,
    bytes_received Nullable(Int64) MATERIALIZED line.tcp.bytes.received.:Int64,
    segments_sent Nullable(Int64) MATERIALIZED line.tcp.segments.sent.:Int64,
    retransmits Nullable(Int64) MATERIALIZED line.tcp.retransmits.total.:Int64,
    retransmits_syn Nullable(Int64) MATERIALIZED line.tcp.retransmits.syn.:Int64,
    lost Nullable(Int64) MATERIALIZED line.lost.count.:Int64,
    INDEX by_peer peer_address TYPE bloom_filter GRANULARITY 4
) ENGINE = MergeTree
PARTITION BY toYYYYMMDD(time)
ORDER BY (event, host, time);

-- Who talked to this address, at which port of the one that was called? Also what is still open: a
-- connection counts by its socket.
CREATE OR REPLACE VIEW who_talked_to AS
SELECT host, process, direction, multiIf(direction = 'outgoing', peer_port, direction = 'incoming', local_port, NULL) AS port,
    count() AS connections, min(begun) AS first, max(seen) AS last
FROM (
    SELECT host, socket, argMax(s.process, s.time) AS process, max(s.local_port) AS local_port, max(s.peer_port) AS peer_port,
        coalesce(max(s.direction), multiIf(
            countIf(state = 'SYN_SENT') > 0, 'outgoing',
            countIf(old_state = 'SYN_RECV') > 0, 'incoming',
            'unknown')) AS direction,
        min(s.time) AS begun, max(s.time) AS seen
    FROM socket_snoop AS s
    WHERE peer_address = {address:String} AND socket IS NOT NULL
    GROUP BY host, socket
)
GROUP BY host, process, direction, port
ORDER BY connections DESC, host, process, direction, port;

-- What was refused, to whom?
CREATE OR REPLACE VIEW refused AS
SELECT host, process, peer_address, peer_port, count() AS connections, min(s.time) AS first, max(s.time) AS last
FROM socket_snoop AS s
WHERE event = 'connection' AND cause = 'refused'
GROUP BY host, process, peer_address, peer_port
ORDER BY connections DESC, host, process, peer_address, peer_port;

-- To whom do segments have to be sent again, and how many of a thousand?
CREATE OR REPLACE VIEW retransmissions_by_peer AS
SELECT peer_address, count() AS connections, sum(s.retransmits) AS retransmits,
    round(1000 * sum(s.retransmits) / nullIf(sum(segments_sent), 0), 1) AS per_thousand
FROM socket_snoop AS s
WHERE event = 'connection' AND s.retransmits IS NOT NULL
GROUP BY peer_address
HAVING retransmits > 0
ORDER BY retransmits DESC, peer_address;

-- Which handshakes took longest, and was it a lost SYN?
CREATE OR REPLACE VIEW slowest_handshakes AS
SELECT host, time, process, peer_address, peer_port, connect_ns / 1e6 AS connect_ms, retransmits_syn
FROM socket_snoop
WHERE event = 'connection' AND connect_ns IS NOT NULL
ORDER BY connect_ns DESC, host, time
LIMIT 20;

-- What did each process carry? A connection within a host has two ends here, and counts at both.
CREATE OR REPLACE VIEW bytes_by_process AS
SELECT host, process, count() AS connections, sum(bytes_sent) AS sent, sum(bytes_received) AS received
FROM socket_snoop
WHERE event = 'connection' AND (bytes_sent IS NOT NULL OR bytes_received IS NOT NULL)
GROUP BY host, process
ORDER BY ifNull(sent, 0) + ifNull(received, 0) DESC, host, process;

-- What is missing in all this?
CREATE OR REPLACE VIEW lost AS
SELECT host, line.lost.reason.:String AS reason, sum(s.lost) AS lost
FROM socket_snoop AS s
WHERE event = 'lost'
GROUP BY host, reason
ORDER BY lost DESC, host, reason;
