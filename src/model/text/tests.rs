use super::*;

fn text(f: impl FnOnce(&mut Vec<u8>)) -> String {
    let mut out = Vec::new();
    f(&mut out);
    String::from_utf8(out).expect("text")
}

#[test]
fn numbers() {
    for value in [0, 7, 10, 65535, u64::MAX] {
        assert_eq!(text(|o| number(o, value)), value.to_string());
    }
    assert_eq!(text(|o| padded(o, 7, 3)), "007");
    assert_eq!(text(|o| padded(o, 12345, 3)), "345");
}

#[test]
fn numbers_are_those_of_the_standard_library() {
    let around = (0..20).map(|n| 10u64.pow(n));
    let around = around.flat_map(|n| [n - 1, n, n + 1, n.wrapping_mul(7)]);
    let powers = (0..64).flat_map(|n| [1 << n, (1 << n) - 1]);
    for value in around.chain(powers).chain(0..2000) {
        assert_eq!(text(|o| number(o, value)), value.to_string());
        assert_eq!(text(|o| hex(o, value)), format!("{value:x}"));
        let low = value as u32;
        for width in 1..=8 {
            let all = format!("{low:08}");
            let last = &all[all.len() - width..];
            assert_eq!(text(|o| padded(o, low, width as u32)), last);
        }
    }
}

#[test]
fn endpoints() {
    let end = |addr: &str, port| {
        let addr = addr.parse().expect("address");
        text(|o| endpoint(o, &Endpoint { addr, port }))
    };
    assert_eq!(end("10.100.10.150", 39134), "10.100.10.150:39134");
    assert_eq!(end("2001:db8::1", 443), "[2001:db8::1]:443");
    assert_eq!(end("::", 0), "[::]:0");
}

#[test]
fn addresses_are_those_of_the_standard_library() {
    let same = |addr: IpAddr| assert_eq!(text(|o| address(o, addr)), addr.to_string());
    for octet in 0..=255 {
        same(Ipv4Addr::new(octet, 255 - octet, octet ^ 0x55, octet).into());
    }
    // Zeros in all places.
    for zeros in 0..=255u16 {
        let part = |at: u16| if zeros >> at & 1 == 1 { 0 } else { 0xa07 << at };
        let parts: [u16; 8] = std::array::from_fn(|at| part(at as u16));
        same(Ipv6Addr::from(parts).into());
    }
    for addr in ["::ffff:10.0.0.1", "::ffff:0:1", "::1:ffff", "fe80::1:0:0:1"] {
        same(addr.parse().expect("an address"));
    }
}

#[test]
fn times() {
    let mut stamps = Stamps::default();
    let nanos = 1_735_596_325 * NANOS + 454_123_456;
    for _ in 0..2 {
        let utc = text(|o| stamps.rfc3339(o, nanos));
        assert_eq!(utc, "2024-12-30T22:05:25.454123456Z");
    }
    let later = text(|o| stamps.rfc3339(o, nanos + NANOS - 454_123_456));
    assert_eq!(later, "2024-12-30T22:05:26.000000000Z");
    let local = text(|o| stamps.local(o, nanos));
    assert!(local.ends_with(".454") && local.len() == 24, "{local}");
}

#[test]
fn every_part_of_a_second_is_what_it_is() {
    let mut stamps = Stamps::default();
    let near = |n: u64| [n.saturating_sub(1), n, n + 1];
    let steps = (0..=1000).flat_map(|n| near(n * 1_000_000));
    let steps = steps.chain((0..=10).flat_map(|n| near(n * EIGHT)));
    for rest in steps.filter(|rest| *rest < NANOS) {
        let nanos = 1_735_596_325 * NANOS + rest;
        let utc = text(|o| stamps.rfc3339(o, nanos));
        assert_eq!(utc, format!("2024-12-30T22:05:25.{rest:09}Z"));
        let local = text(|o| stamps.local(o, nanos));
        let millis = format!("25.{:03}", rest / 1_000_000);
        assert!(local.ends_with(&millis), "{rest}: {local}");
    }
    // Back again.
    for second in [7, 5, 6] {
        let utc = text(|o| stamps.rfc3339(o, second * NANOS));
        assert_eq!(utc, format!("1970-01-01T00:00:0{second}.000000000Z"));
    }
}

#[test]
fn printable_escapes_controls() {
    assert_eq!(printable("/a\n\x1b[1mb"), "/a\\n\\u{1b}[1mb");
    assert_eq!(printable("/\u{202e}\u{e9}"), "/\\u{202e}\u{e9}");
}

#[test]
fn seconds_and_what_is_left() {
    let near = |n: u64| [n.saturating_sub(1), n, n.saturating_add(1)];
    let whole = (0..2000).chain(u64::MAX / NANOS - 2000..u64::MAX / NANOS);
    let bits = (0..64).map(|n| 1 << n);
    let all = whole.map(|n| n * NANOS).chain(bits).chain([u64::MAX]);
    for nanos in all.flat_map(near) {
        assert_eq!(seconds_of(nanos), (nanos / NANOS, nanos % NANOS));
    }
    for micros in [0, 1, 10, 999, 1_000, 99_999, 100_000, 999_999] {
        assert_eq!(text(|o| fraction(o, micros)), format!(".{micros:06}"));
    }
}

#[test]
fn numbers_and_times_behind_a_piece() {
    let mut stamps = Stamps::default();
    for len in 0..40 {
        let piece = "x".repeat(len);
        for value in [0, 9, 10, 99_999_999, EIGHT, u64::MAX] {
            let got = text(|o| number_behind(o, piece.as_bytes(), value));
            assert_eq!(got, format!("{piece}{value}"));
        }
    }
    for nanos in [0, NANOS - 1, NANOS, 7, 1_735_596_325 * NANOS + 5] {
        let behind = text(|o| stamps.rfc3339_behind(o, b"123456789012", nanos));
        let alone = text(|o| stamps.rfc3339(o, nanos));
        assert_eq!(behind, format!("123456789012{alone}"));
    }
}
