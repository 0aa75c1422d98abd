//! Segments that were sent again.

use super::*;

#[test]
fn a_failed_retransmission_has_its_errno() {
    let laid = native(State::Close, State::Established, (1, 2))
        .with(&EV_KIND, KIND_RETRANS)
        .with(&EV_TOTAL, 7)
        .with(&EV_ERR, i32::MIN)
        .with(&EV_FLAGS, FLAG_ERR);
    let with = |total| What::Retransmit {
        kind: None,
        state: Some(State::Established),
        error: Some(i32::MAX),
        total,
    };
    assert_eq!(laid.decode().what, with(Some(7)));
    let less = laid.decoded(EV_CLOSE_SIZE, Abilities::all() - Abilities::RETRANSMITS);
    assert_eq!(less.expect("valid").what, with(None));
}
