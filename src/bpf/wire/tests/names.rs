//! Names of tasks.

use super::*;

#[test]
fn a_name_ends_where_it_does() {
    for end in 0..=COMM_LEN {
        for fill in [1, b'a', 0x7f, 0x80, 0x81, 0xff] {
            let (mut left, mut bare) = ([fill; COMM_LEN], [0; COMM_LEN]);
            bare[..end].fill(fill);
            assert_eq!(name(bare), bare);
            if let Some(at) = left.get_mut(end) {
                *at = 0;
            }
            assert_eq!(name(left), bare, "{end} {fill}");
        }
    }
}

#[test]
fn what_is_behind_a_name_is_none_of_it() {
    let laid = native(State::Close, State::SynSent, (0, 80)).with(&EV_HOW, SOURCE_TASK);
    let laid = laid.owned(&OW_THREAD, *b"curl\0bash\0python");
    assert_eq!(laid.decode().on_cpu.name, comm(b"curl"));
}
