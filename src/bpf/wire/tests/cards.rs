//! Events whose card was told before.

use super::*;

/// Events without a card are those with it, where it was told before.
#[test]
fn what_was_told_once_is_filled_in() {
    for order in ORDERS {
        let mut cards = Cards::new(4);
        let known = Abilities::all();
        let mut decode = |bytes: &[u8]| {
            let event = Event::decode_from(order, (1, 2), bytes, known, &mut cards);
            (event.expect("a valid event"), cards.missing())
        };
        let change = |socket, old, new, flags| {
            laid(order, socket, old, new, (14, 15))
                .with(&EV_HOW, SOURCE_CACHED)
                .with(&EV_FLAGS, FLAG_FAMILY | flags)
                .owned(&OW_TASK, 16 << 32 | 17)
                .owned(&OW_COMM, comm(b"owner"))
                .owned(&OW_UID, 19)
                .owned(&OW_NETNS, 21)
                .with(&EV_SKERR, 104)
                .with(&EV_BYTES_SENT, 2000)
                .with(&EV_SEGS_OUT, 7)
        };
        let (opened, ..) = decode(&change(5, State::SynSent, State::Established, FLAG_CARD).bytes);
        assert_eq!(opened.netns, Some(21));
        let later = change(5, State::Established, State::CloseWait, FLAG_USER);
        let whole = decode(&later.bytes[..EV_SIZE]).0;
        let brief = later.with(&EV_FLAGS, FLAG_FAMILY | FLAG_USER | FLAG_BRIEF);
        assert_eq!(decode(&brief.bytes[..EV_HEAD]), (whole, 0));
        assert_eq!(whole.owner.and_then(|o| o.task.uid), Some(19));
        // Its own thread: it was told with the card.
        let own = brief.with(&EV_HOW, SOURCE_TASK);
        let own = decode(&own.bytes[..EV_HEAD]).0.owner.expect("an owner");
        assert_eq!((own.source, own.thread), (OwnerSource::Task, comm(b"curl")));
        // At its end the counters follow the head.
        let last = change(5, State::LastAck, State::Close, FLAG_SOCKET);
        let whole = Event::decode_from(order, (1, 2), &last.bytes, known, &mut Cards::new(1));
        let brief = last.with(&EV_FLAGS, FLAG_FAMILY | FLAG_SOCKET | FLAG_BRIEF);
        let bytes = [&brief.bytes[..EV_HEAD], &brief.bytes[EV_SIZE..]].concat();
        assert_eq!(bytes.len(), usize::from(EV_BRIEF_SIZE));
        assert_eq!(decode(&bytes), (whole.expect("a valid event"), 0));
        // Then it is forgotten: of what comes now only the head is known.
        let (event, missing) = decode(&brief.bytes[..EV_HEAD + 80]);
        assert_eq!((event.owner, event.netns, missing), (None, None, 1));
        assert_eq!((event.socket, event.local.port), (5, 14));
        assert!(event.is_noise());
        // A card that the kernel does not keep is not kept here either.
        decode(&change(6, State::SynSent, State::Established, 0).bytes);
        let brief = change(6, State::Established, State::FinWait1, FLAG_BRIEF);
        assert_eq!(decode(&brief.bytes[..EV_HEAD]).1, 2);
    }
}
