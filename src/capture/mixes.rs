//! How much of what a host has its programs may use: what the kernel does not take
//! costs detail, not the run.
//!
//! Contract: the most is tried first. What is gone without has the reason that the
//! kernel gave when all else was the same, so that nothing is blamed on another
//! thing's lack.

use crate::error::{Error, Kind};
use crate::model::ability::Abilities;

/// What was taken, and why not more.
#[derive(Debug)]
pub(super) struct Taken<M, T> {
    /// What it was made with.
    pub(super) members: Option<M>,
    /// [`Abilities::CGROUP`], or nothing.
    pub(super) cgroup: Abilities,
    /// What came of it.
    pub(super) made: T,
    /// Why it was not made with the members that there are, or not in a better way.
    pub(super) without_members: Option<Error>,
    /// Why it was not made with the helper for cgroups.
    pub(super) without_cgroup: Option<Error>,
}

/// Makes something with members in the first of these ways to read them that is
/// taken, and with the helper for cgroups, or with one of them, or with neither.
pub(super) fn first_taken<M: Copy, T>(
    members: impl IntoIterator<Item = M>,
    make: &dyn Fn(Option<M>, Abilities) -> Result<T, Error>,
) -> Result<Taken<M, T>, Error> {
    let mut without_members = None;
    let mut members = members.into_iter();
    loop {
        let with = members.next();
        let mut without_cgroup = None;
        for cgroup in [Abilities::CGROUP, Abilities::empty()] {
            match (make(with, cgroup), with) {
                (Ok(made), members) => {
                    return Ok(Taken {
                        members,
                        cgroup,
                        made,
                        without_members,
                        without_cgroup,
                    });
                }
                (Err(why), _) if !matches!(why.kind(), Kind::Refused | Kind::Unsupported) => {
                    return Err(why);
                }
                (Err(why), _) if !cgroup.is_empty() => without_cgroup = Some(why),
                (Err(why), Some(_)) => without_members = Some(why),
                (Err(why), None) => return Err(why),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A host that has BTF or not, and takes a program with members or not, and with
    /// the helper or not: what is used, and what the lack of each is blamed on.
    type Row = (
        bool,
        bool,
        bool,
        bool,
        Option<&'static str>,
        bool,
        Option<&'static str>,
    );

    const MEMBERS: &str = "members";
    const HELPER: &str = "helper";

    #[test]
    fn what_is_missing_is_blamed_on_itself() {
        let rows: [Row; 8] = [
            // BTF there, members taken, helper taken; members used, why not, helper used, why not
            (true, true, true, true, None, true, None),
            // BTF without CONFIG_CGROUPS.
            (true, true, false, true, None, false, Some(HELPER)),
            (true, false, true, false, Some(MEMBERS), true, None),
            (
                true,
                false,
                false,
                false,
                Some(MEMBERS),
                false,
                Some(HELPER),
            ),
            // Linux 4.18 and later without BTF, and 4.16.
            (false, true, true, false, None, true, None),
            (false, true, false, false, None, false, Some(HELPER)),
            (false, false, true, false, None, true, None),
            (false, false, false, false, None, false, Some(HELPER)),
        ];
        for (btf, members, helper, used, no_members, grouped, no_helper) in rows {
            let make = |with: Option<()>, cgroup: Abilities| match (with, cgroup.is_empty()) {
                (Some(()), _) if !members => Err(Error::new(Kind::Refused, MEMBERS)),
                (_, false) if !helper => Err(Error::new(Kind::Unsupported, HELPER)),
                _ => Ok(()),
            };
            let taken = first_taken(btf.then_some(()), &make).expect("made");
            assert_eq!(taken.members.is_some(), used);
            assert_eq!(!taken.cgroup.is_empty(), grouped);
            let why = |error: &Option<Error>| error.as_ref().map(|e| e.why().to_owned());
            assert_eq!(why(&taken.without_members).as_deref(), no_members);
            assert_eq!(why(&taken.without_cgroup).as_deref(), no_helper);
        }
    }

    #[test]
    fn members_are_read_in_the_first_way_that_is_taken() {
        let make = |with: Option<u8>, _: Abilities| match with {
            Some(1) => Err(Error::new(Kind::Refused, "by loads")),
            with => Ok(with),
        };
        let taken = first_taken([2, 1], &make).expect("made");
        assert_eq!(
            (taken.made, taken.without_members.is_some()),
            (Some(2), false)
        );
        let taken = first_taken([1, 2], &make).expect("made");
        let why = taken.without_members.map(|why| why.why().to_owned());
        assert_eq!((taken.made, why.as_deref()), (Some(2), Some("by loads")));
    }

    #[test]
    fn what_helps_nothing_is_not_tried() {
        let tries = std::cell::Cell::new(0);
        let fail = |kind| {
            tries.set(0);
            let make = |_: Option<()>, _: Abilities| -> Result<(), Error> {
                tries.set(tries.get() + 1);
                Err(Error::new(kind, tries.get().to_string()))
            };
            let error = first_taken(Some(()), &make).expect_err("fails");
            (error.why().to_owned(), tries.get())
        };
        assert_eq!(fail(Kind::Permission), ("1".into(), 1));
        // The last one is what stands in the way of the least.
        assert_eq!(fail(Kind::Refused), ("4".into(), 4));
    }
}
