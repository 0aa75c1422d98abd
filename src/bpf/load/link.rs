//! A template is completed for a host. A private part of `load`.
//!
//! Contract: with a filter it is no longer than every kernel takes.

use crate::bpf::guard::{self, Guard};
use crate::bpf_link::{Host, LinkError, Linked, Template};
use crate::error::{Error, Kind};

/// Completes a template, with the filter in its places.
pub(super) fn link(
    host: &dyn Host,
    filter: Option<&Guard>,
    template: &mut Template,
) -> Result<Linked, Error> {
    if let Some(guard) = filter.filter(|_| template.wants_filter()) {
        let whole = template.with(guard.parts());
        *template = whole.ok_or_else(|| {
            Error::new(
                Kind::Runtime,
                "the filter has a part missing: please report this",
            )
        })?;
    }
    let linked = template.linked(host).map_err(|why| {
        if let (LinkError::JumpRange { .. }, Some(_)) = (&why, filter) {
            return guard::too_long(&template.name, template.items.len());
        }
        let on = format!("{}:{}", template.group, template.event);
        let what = format!("cannot use tracepoint {on} of this kernel: {why}");
        Error::new(Kind::Unsupported, what)
    })?;
    let len = linked.insns.len();
    if filter.is_some() && len > guard::MOST {
        return Err(guard::too_long(&template.name, len));
    }
    Ok(linked)
}
