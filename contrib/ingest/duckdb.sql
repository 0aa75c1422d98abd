-- The lines of many hosts in DuckDB, and what one asks of them.
--
-- In a folder with hosts/NAME.jsonl, one file of JSON lines for each host (as rsyslog-collector.conf
-- writes them):
--
--     duckdb fleet.duckdb < duckdb.sql
--     duckdb fleet.duckdb "FROM who_talked_to('10.0.0.7')"
--
-- A line is kept whole in the column `line`. What is asked often has a column of its own; all else is
-- reached by its key: line->>'/tcp.reset.reason'. What a line does not know is NULL. A line that can't be
-- read, as the last one of a file that is being written, is a row without anything: see lost.

CREATE OR REPLACE TABLE lines AS
SELECT
    coalesce(k."host.name", parse_filename(filename, true)) AS host,
    k."time" AS time,
    k."event.name" AS event,
    k."socket.id" AS socket,
    k."network.local.address" AS local_address,
    k."network.local.port" AS local_port,
    k."network.peer.address" AS peer_address,
    k."network.peer.port" AS peer_port,
    k."process.pid" AS pid,
    k."process.name" AS process,
    k."user.id" AS user_id,
    k."tcp.state.old" AS old_state,
    k."tcp.state.new" AS state,
    k."connection.direction" AS direction,
    k."connection.cause" AS cause,
    k."connection.duration_ns" AS duration_ns,
    k."tcp.connect_ns" AS connect_ns,
    k."tcp.rtt_us" AS rtt_us,
    k."tcp.bytes.sent" AS bytes_sent,
    k."tcp.bytes.received" AS bytes_received,
    k."tcp.segments.sent" AS segments_sent,
    k."tcp.retransmits.total" AS retransmits,
    k."tcp.retransmits.syn" AS retransmits_syn,
    k."lost.count" AS lost,
    json AS line
FROM (
    SELECT filename, json, json_transform(json, '{
        "host.name": "VARCHAR",
        "time": "TIMESTAMP_NS",
        "event.name": "VARCHAR",
        "socket.id": "VARCHAR",
        "network.local.address": "VARCHAR",
        "network.local.port": "USMALLINT",
        "network.peer.address": "VARCHAR",
        "network.peer.port": "USMALLINT",
        "process.pid": "BIGINT",
        "process.name": "VARCHAR",
        "user.id": "BIGINT",
        "tcp.state.old": "VARCHAR",
        "tcp.state.new": "VARCHAR",
        "connection.direction": "VARCHAR",
        "connection.cause": "VARCHAR",
        "connection.duration_ns": "BIGINT",
        "tcp.connect_ns": "BIGINT",
        "tcp.rtt_us": "BIGINT",
        "tcp.bytes.sent": "BIGINT",
        "tcp.bytes.received": "BIGINT",
        "tcp.segments.sent": "BIGINT",
        "tcp.retransmits.total": "BIGINT",
        "tcp.retransmits.syn": "BIGINT",
        "lost.count": "BIGINT"
    }') AS k
    FROM read_ndjson_objects('hosts/*.jsonl', filename = true, ignore_errors = true)
);

-- Who talked to this address, at which port of the one that was called? Also what is still open: a
-- connection counts by its socket.
CREATE OR REPLACE MACRO who_talked_to(address) AS TABLE
SELECT host, process, direction, CASE direction WHEN 'outgoing' THEN peer_port WHEN 'incoming' THEN local_port END AS port,
    count(*) AS connections, min(first) AS first, max(last) AS last
FROM (
    SELECT host, socket, arg_max(process, time) AS process, max(local_port) AS local_port, max(peer_port) AS peer_port,
        coalesce(max(direction), CASE
            WHEN bool_or(state = 'SYN_SENT') THEN 'outgoing'
            WHEN bool_or(old_state = 'SYN_RECV') THEN 'incoming'
            ELSE 'unknown' END) AS direction,
        min(time) AS first, max(time) AS last
    FROM lines
    WHERE peer_address = address AND socket IS NOT NULL
    GROUP BY host, socket
)
GROUP BY ALL
ORDER BY connections DESC, host, process, direction, port;

-- What was refused, to whom?
CREATE OR REPLACE VIEW refused AS
SELECT host, process, peer_address, peer_port, count(*) AS connections, min(time) AS first, max(time) AS last
FROM lines
WHERE event = 'connection' AND cause = 'refused'
GROUP BY host, process, peer_address, peer_port
ORDER BY connections DESC, host, process, peer_address, peer_port;

-- To whom do segments have to be sent again, and how many of a thousand?
CREATE OR REPLACE VIEW retransmissions_by_peer AS
SELECT peer_address, count(*) AS connections, sum(retransmits)::BIGINT AS retransmits,
    round(1000.0 * sum(retransmits) / nullif(sum(segments_sent), 0), 1) AS per_thousand
FROM lines
WHERE event = 'connection' AND retransmits IS NOT NULL
GROUP BY peer_address
HAVING sum(retransmits) > 0
ORDER BY retransmits DESC, peer_address;

-- Which handshakes took longest, and was it a lost SYN?
CREATE OR REPLACE VIEW slowest_handshakes AS
SELECT host, time, process, peer_address, peer_port, connect_ns / 1e6 AS connect_ms, retransmits_syn
FROM lines
WHERE event = 'connection' AND connect_ns IS NOT NULL
ORDER BY connect_ns DESC, host, time
LIMIT 20;

-- What did each process carry? A connection within a host has two ends here, and counts at both.
CREATE OR REPLACE VIEW bytes_by_process AS
SELECT host, process, count(*) AS connections, sum(bytes_sent)::BIGINT AS sent, sum(bytes_received)::BIGINT AS received
FROM lines
WHERE event = 'connection' AND (bytes_sent IS NOT NULL OR bytes_received IS NOT NULL)
GROUP BY host, process
ORDER BY coalesce(sent, 0) + coalesce(received, 0) DESC, host, process;

-- What is missing in all this?
CREATE OR REPLACE VIEW lost AS
SELECT host, coalesce(line->>'/lost.reason', 'not_json') AS reason, sum(coalesce(lost, 1))::BIGINT AS lost
FROM lines
WHERE event = 'lost' OR line IS NULL
GROUP BY host, reason
ORDER BY lost DESC, host, reason;
