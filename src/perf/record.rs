//! The arithmetic of a perf ring, without a kernel: records out of the bytes
//! between tail and head.
//!
//! Contract: every size that a record states is checked against what is there,
//! in every build. A record that can't be right ends the reading: what follows
//! it can't be found, so all the rest is used up and reported as corrupt.
//! Layout: include/uapi/linux/perf_event.h, struct perf_event_header.

const HEADER_LEN: usize = 8;
const PERF_RECORD_LOST: u32 = 2;
const PERF_RECORD_SAMPLE: u32 = 9;

/// Bytes that may lie in two pieces because they wrap around the ring's end.
#[derive(Clone, Copy, Debug)]
pub struct Span<'a> {
    first: &'a [u8],
    second: &'a [u8],
}

impl<'a> Span<'a> {
    /// The bytes of `first`, then those of `second`.
    pub fn new(first: &'a [u8], second: &'a [u8]) -> Span<'a> {
        Span { first, second }
    }

    /// Bytes in all.
    pub fn len(&self) -> usize {
        self.first.len() + self.second.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// `len` bytes from `at`.
    pub fn slice(&self, at: usize, len: usize) -> Option<Span<'a>> {
        let end = at.checked_add(len).filter(|&end| end <= self.len())?;
        let split = self.first.len();
        let first = &self.first[at.min(split)..end.min(split)];
        let second = &self.second[at.saturating_sub(split)..end.saturating_sub(split)];
        Some(Span { first, second })
    }

    /// The bytes in one piece: in place, or copied to `buffer` where they are
    /// in two. At most as many as the buffer holds.
    pub fn flatten<'b>(&self, buffer: &'b mut [u8]) -> &'b [u8]
    where
        'a: 'b,
    {
        if self.second.is_empty() {
            return self.first;
        }
        if self.first.is_empty() {
            return self.second;
        }
        let len = self.len().min(buffer.len());
        let split = self.first.len().min(len);
        buffer[..split].copy_from_slice(&self.first[..split]);
        buffer[split..len].copy_from_slice(&self.second[..len - split]);
        &buffer[..len]
    }

    fn array<const N: usize>(&self, at: usize) -> Option<[u8; N]> {
        let mut buffer = [0; N];
        let bytes = self.slice(at, N)?;
        bytes.flatten(&mut buffer).try_into().ok()
    }

    fn u16(&self, at: usize) -> Option<u16> {
        self.array(at).map(u16::from_ne_bytes)
    }

    fn u32(&self, at: usize) -> Option<u32> {
        self.array(at).map(u32::from_ne_bytes)
    }

    fn u64(&self, at: usize) -> Option<u64> {
        self.array(at).map(u64::from_ne_bytes)
    }
}

/// One record.
#[derive(Clone, Copy, Debug)]
pub enum Record<'a> {
    /// PERF_RECORD_SAMPLE of a sample type TIME | RAW.
    Sample {
        /// Nanoseconds of the event clock.
        time: u64,
        /// What the program sent, with up to 7 bytes of padding behind it.
        data: Span<'a>,
    },
    /// PERF_RECORD_LOST: so many records found no room before this one.
    Lost(u64),
    /// A sample whose inner size is wrong: one event that can't be read.
    Malformed,
    /// A record of another type, of no interest.
    Other,
}

/// A record's sizes make no sense: nothing after it can be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Corrupt;

/// Reads the record at the start of `bytes`: the record and its length in
/// bytes. `None` when there is nothing left.
pub fn first<'a>(bytes: Span<'a>) -> Option<Result<(Record<'a>, usize), Corrupt>> {
    if bytes.is_empty() {
        return None;
    }
    Some(parse(bytes).ok_or(Corrupt))
}

fn parse<'a>(bytes: Span<'a>) -> Option<(Record<'a>, usize)> {
    let kind = bytes.u32(0)?;
    let len = usize::from(bytes.u16(6)?);
    if len < HEADER_LEN || len % 8 != 0 {
        return None;
    }
    let record = bytes.slice(0, len)?;
    let parsed = match kind {
        PERF_RECORD_SAMPLE => sample(record).unwrap_or(Record::Malformed),
        // header, u64 id, u64 lost
        PERF_RECORD_LOST => record.u64(16).map_or(Record::Malformed, Record::Lost),
        _ => Record::Other,
    };
    Some((parsed, len))
}

/// header, u64 time, u32 size, data
fn sample<'a>(record: Span<'a>) -> Option<Record<'a>> {
    let time = record.u64(8)?;
    let size = record.u32(16)?;
    let data = record.slice(20, usize::try_from(size).ok()?)?;
    Some(Record::Sample { time, data })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// A sample record as the kernel writes it.
    pub fn sample_bytes(time: u64, data: &[u8]) -> Vec<u8> {
        let padded = (20 + data.len()).next_multiple_of(8);
        let mut b = Vec::new();
        b.extend(PERF_RECORD_SAMPLE.to_ne_bytes());
        b.extend(0u16.to_ne_bytes());
        b.extend((padded as u16).to_ne_bytes());
        b.extend(time.to_ne_bytes());
        b.extend(((padded - 20) as u32).to_ne_bytes());
        b.extend(data);
        b.resize(padded, 0xee);
        b
    }

    fn lost_bytes(count: u64) -> Vec<u8> {
        let mut b = Vec::new();
        b.extend(PERF_RECORD_LOST.to_ne_bytes());
        b.extend(0u16.to_ne_bytes());
        b.extend(24u16.to_ne_bytes());
        b.extend(7u64.to_ne_bytes());
        b.extend(count.to_ne_bytes());
        b
    }

    #[derive(Debug, PartialEq)]
    enum Seen {
        Sample(u64, Vec<u8>),
        Lost(u64),
        Malformed,
        Other,
        Corrupt,
    }

    fn read_all(first_part: &[u8], second: &[u8]) -> Vec<Seen> {
        let mut rest = Span::new(first_part, second);
        let mut seen = Vec::new();
        while let Some(result) = first(rest) {
            let Ok((record, len)) = result else {
                seen.push(Seen::Corrupt);
                break;
            };
            seen.push(match record {
                Record::Sample { time, data } => {
                    let mut buffer = [0; 256];
                    Seen::Sample(time, data.flatten(&mut buffer).to_vec())
                }
                Record::Lost(count) => Seen::Lost(count),
                Record::Malformed => Seen::Malformed,
                Record::Other => Seen::Other,
            });
            rest = rest.slice(len, rest.len() - len).expect("within");
        }
        seen
    }

    #[test]
    fn reads_samples_lost_and_others() {
        let mut bytes = sample_bytes(1, b"abcd");
        bytes.extend(lost_bytes(9));
        bytes.extend([1, 0, 0, 0, 0, 0, 8, 0]);
        let seen = read_all(&bytes, &[]);
        let data = b"abcd".to_vec();
        assert_eq!(seen, [Seen::Sample(1, data), Seen::Lost(9), Seen::Other]);
    }

    #[test]
    fn lying_sizes_are_corrupt_or_malformed() {
        // A size of 0, one below the header, one that is no multiple of 8, one too long.
        for size in [0u16, 7, 12, 32] {
            let mut b = sample_bytes(1, b"abcd");
            b[6..8].copy_from_slice(&size.to_ne_bytes());
            assert_eq!(read_all(&b, &[]), [Seen::Corrupt], "{size}");
        }
        // The raw size says more than the record holds.
        for raw in [5u32, 1 << 20, u32::MAX] {
            let mut b = sample_bytes(1, b"abcd");
            b[16..20].copy_from_slice(&raw.to_ne_bytes());
            assert_eq!(read_all(&b, &[]), [Seen::Malformed], "{raw}");
        }
        // A sample without room for its fields; a LOST without a count.
        let mut b = sample_bytes(1, b"");
        b.truncate(16);
        b[6..8].copy_from_slice(&16u16.to_ne_bytes());
        assert_eq!(read_all(&b, &[]), [Seen::Malformed]);
        let mut b = lost_bytes(1);
        b.truncate(16);
        b[6..8].copy_from_slice(&16u16.to_ne_bytes());
        assert_eq!(read_all(&b, &[]), [Seen::Malformed]);
        // Truncated anywhere: never a panic, and never a record out of nothing.
        let whole = sample_bytes(1, b"abcd");
        for len in 1..whole.len() {
            assert_eq!(read_all(&whole[..len], &[]), [Seen::Corrupt], "{len}");
        }
    }

    proptest! {
        #[test]
        fn any_split_reads_the_same(
            payloads in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..100), 1..20),
            cut in any::<prop::sample::Index>(),
        ) {
            let mut bytes = Vec::new();
            let mut expected = Vec::new();
            for (i, payload) in payloads.iter().enumerate() {
                if i % 3 == 2 {
                    bytes.extend(lost_bytes(i as u64));
                    expected.push(Seen::Lost(i as u64));
                }
                let record = sample_bytes(i as u64, payload);
                expected.push(Seen::Sample(i as u64, record[20..].to_vec()));
                bytes.extend(record);
            }
            let at = cut.index(bytes.len() + 1);
            prop_assert_eq!(read_all(&bytes[..at], &bytes[at..]), expected);
        }

        #[test]
        fn any_bytes_end(
            a in prop::collection::vec(any::<u8>(), 0..400),
            b in prop::collection::vec(any::<u8>(), 0..400),
        ) {
            // Every record uses at least a header, so this ends; and no panic.
            prop_assert!(read_all(&a, &b).len() <= (a.len() + b.len()) / 8 + 1);
        }

        #[test]
        fn slices_are_those_of_the_whole(
            bytes in prop::collection::vec(any::<u8>(), 0..64),
            cut in any::<prop::sample::Index>(),
            at in 0usize..80,
            len in 0usize..80,
        ) {
            let cut = cut.index(bytes.len() + 1);
            let span = Span::new(&bytes[..cut], &bytes[cut..]);
            let mut buffer = [0; 64];
            let got = span.slice(at, len).map(|s| s.flatten(&mut buffer).to_vec());
            prop_assert_eq!(got, bytes.get(at..at + len).map(<[u8]>::to_vec));
        }
    }
}
