//! Outputs of every kind, and readers that do as they like.

use super::*;
use std::fs::File;
use std::io::Read;

const REASONS: (Reason, Reason) = (Reason::ConsoleSlow, Reason::ConsoleWrite);

fn to(path: &str) -> Sink {
    let file = File::options().write(true).open(path);
    Sink::own(file.expect(path))
}

fn piped(limit: usize) -> (File, Stream) {
    let (reader, writer) = nix::unistd::pipe().expect("pipe");
    let sink = Sink::shared(File::from(writer));
    (File::from(reader), Stream::new(Some(sink), limit, REASONS))
}

fn put(stream: &mut Stream, lines: &str) {
    for lost in stream.take_owed() {
        say(stream, lost);
    }
    let start = stream.buffer().len();
    stream.buffer().extend_from_slice(lines.as_bytes());
    stream.keep(start);
}

fn say(stream: &mut Stream, lost: Lost) {
    stream.say(lost, &mut |out, lost| {
        let text = format!("{} {}\n", lost.reason.name(), lost.count);
        out.extend_from_slice(text.as_bytes());
    });
}

#[test]
fn a_closed_reader_is_told() {
    let (mut reader, mut stream) = piped(LIMIT);
    put(&mut stream, "one\n");
    assert_eq!(stream.flush(), Flushed::Fine);
    let mut text = [0; 4];
    reader.read_exact(&mut text).expect("read");
    assert_eq!(&text, b"one\n");
    drop(reader);
    put(&mut stream, "two\n");
    assert_eq!(stream.flush(), Flushed::Closed);
    assert!(stream.is_closed());
}

#[test]
fn a_full_device_loses_counted_lines() {
    let mut stream = Stream::new(Some(to("/dev/full")), LIMIT, REASONS);
    put(&mut stream, "one\ntwo\n");
    assert_eq!(stream.flush(), Flushed::Failed(Errno::ENOSPC));
    put(&mut stream, "three\n");
    assert_eq!(stream.flush(), Flushed::StillFailing);
    assert_eq!((stream.lost().failed, stream.lost().slow), (3, 0));
    stream.replace(to("/dev/null"), false);
    put(&mut stream, "four\n");
    assert_eq!(stream.flush(), Flushed::Recovered(3));
    assert_eq!(stream.flush(), Flushed::Fine);
    assert!(!stream.owes());
}

#[test]
fn no_sink_loses_counted_lines() {
    let mut stream = Stream::new(None, LIMIT, REASONS);
    stream.lack(Errno::ENOENT);
    put(&mut stream, "one\ntwo\n");
    assert_eq!(stream.flush(), Flushed::StillFailing);
    let (mut reader, other) = piped(LIMIT);
    stream.replace(other.sink.expect("a sink"), false);
    put(&mut stream, "three\n");
    assert_eq!(stream.flush(), Flushed::Recovered(2));
    drop(stream);
    let mut text = String::new();
    reader.read_to_string(&mut text).expect("text");
    assert_eq!(text, "console_write 2\nthree\n");
}

#[test]
fn a_torn_line_is_ended() {
    let (mut reader, mut stream) = piped(LIMIT);
    put(&mut stream, "one\ntwo\nthree\n");
    // As a write that was cut off by the end of the disk.
    stream.queue.front();
    stream.wrote(6, b'w');
    assert_eq!(stream.fail(Errno::ENOSPC), Flushed::Failed(Errno::ENOSPC));
    assert_eq!(stream.lost().failed, 2);
    put(&mut stream, "four\n");
    assert_eq!(stream.flush(), Flushed::Recovered(2));
    drop(stream);
    let mut text = String::new();
    reader.read_to_string(&mut text).expect("text");
    assert_eq!(text, "\nconsole_write 2\nfour\n");
}

/// Whatever the reader does: what is missing is said, exactly, and where.
#[test]
fn a_slow_reader_is_told_what_it_missed() {
    let (mut reader, mut stream) = piped(20_000);
    let mut text = Vec::new();
    let mut block = [0; 50_000];
    let loss = Lost {
        wall: 1,
        cpu: Some(1),
        count: 5,
        reason: Reason::RingFull,
    };
    for n in 0..50_000 {
        put(&mut stream, &format!("{n}\n"));
        assert_eq!(stream.flush(), Flushed::Fine);
        assert!(stream.waiting() <= 21_000);
        if n % 1000 == 0 {
            match stream.is_dropping() {
                true => stream.owe(loss),
                false => say(&mut stream, loss),
            }
        }
        if n % 17_000 == 16_999 {
            let got = reader.read(&mut block).expect("read");
            text.extend_from_slice(&block[..got]);
        }
    }
    let read = std::thread::spawn(move || {
        reader.read_to_end(&mut text).expect("read");
        String::from_utf8(text).expect("text")
    });
    while stream.waiting() > 0 || stream.owes() {
        for lost in stream.take_owed() {
            say(&mut stream, lost);
        }
        assert_eq!(stream.flush(), Flushed::Fine);
    }
    let slow = stream.lost().slow;
    drop(stream);
    let (mut next, mut said, mut rings) = (0, 0, 0);
    for line in read.join().expect("the reader").lines() {
        if let Some(count) = line.strip_prefix("console_slow ") {
            let count: u64 = count.parse().expect(line);
            next += count;
            said += count;
        } else if let Some(count) = line.strip_prefix("ring_full ") {
            rings += count.parse::<u64>().expect(line);
        } else {
            assert_eq!(line, next.to_string());
            next += 1;
        }
    }
    assert_eq!((next, said, rings), (50_000, slow, 250));
    assert!(slow > 1000, "{slow}");
}

#[test]
fn a_reader_given_up_costs_what_waits_and_what_comes() {
    let (_reader, mut stream) = piped(LIMIT);
    for _ in 0..1000 {
        put(&mut stream, &format!("{:99}\n", "x"));
    }
    assert_eq!(stream.flush(), Flushed::Fine);
    let left = stream.queue.lines();
    assert!(left > 0);
    stream.give_up();
    put(&mut stream, "more\n");
    assert_eq!((stream.waiting(), stream.lost().slow), (0, left + 1));
    assert!(stream.take_owed().is_empty());
}

#[test]
fn whole_lines_within_a_limit() {
    let front = b"one\ntwo\nthree\n";
    for (most, within, text) in [
        (14, false, &b"one\ntwo\nthree\n"[..]),
        (13, false, b"one\ntwo\n"),
        (4, false, b"one\n"),
        (3, false, b""),
        (0, true, b"one\n"),
    ] {
        assert_eq!(fitting(front, most, within), text, "{most}");
    }
    assert_eq!(fitting(b"no end", 2, true), b"no end");
}

/// Lines that say losses have room, but not without end.
#[test]
fn losses_alone_are_bounded() {
    let (_reader, mut stream) = piped(20_000);
    for _ in 0..10_000 {
        let loss = Lost {
            wall: 1,
            cpu: None,
            count: 1,
            reason: Reason::RingFull,
        };
        for lost in stream.take_owed() {
            say(&mut stream, lost);
        }
        match stream.is_dropping() {
            true => stream.owe(loss),
            false => say(&mut stream, loss),
        }
        assert_eq!(stream.flush(), Flushed::Fine);
        assert!(stream.waiting() < 21_000);
    }
    let owed: u64 = stream.owed.iter().map(|l| l.count).sum();
    assert!(owed > 1000, "{owed}");
}
