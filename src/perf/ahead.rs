//! A look at what will be handed out next, without taking it.
//!
//! Contract: what is in the rings now is seen, in no order; nothing is used up.

use super::Rings;
use super::news::LAYOUT;
use super::record::{self, Body, Ids, News, Record, Topic};
use super::span::Span;
use crate::sys::perf_event::SampleType;

fn each(bytes: (&[u8], &[u8]), layout: SampleType, see: &mut dyn FnMut(&Record<'_>)) {
    let mut rest = Span::new(bytes.0, bytes.1);
    while let Some(Ok((record, len))) = record::first(rest, layout) {
        see(&record);
        rest.skip(len);
    }
}

impl Rings {
    /// The tasks of the samples that are there and older than `until`.
    pub fn tasks_ahead(&self, until: u64, see: &mut dyn FnMut(Ids)) {
        let layout = self.feed.layout();
        for ring in self.rings.iter().chain(&self.retired) {
            each(ring.map.unread(), layout, &mut |record| match record {
                Record::Timed {
                    time,
                    body:
                        Body::Sample {
                            task: Some(ids), ..
                        },
                } if *time < until => see(*ids),
                _ => {}
            });
        }
    }

    /// The tasks that have run another program, as far as there are records of
    /// it, each with its time; whether none is missing.
    pub fn execs_ahead(&self, see: &mut dyn FnMut(Ids, u64)) -> bool {
        let mut whole = self.without_news.is_none();
        let news = self.news.rings.iter().chain(&self.news.retired);
        for ring in news.filter(|ring| ring.gap.topic == Topic::Names) {
            let unread = ring.map.unread();
            whole &= !ring.may_have_lost(unread.0.len() + unread.1.len());
            each(unread, LAYOUT, &mut |record| match record {
                Record::Timed {
                    time,
                    body:
                        Body::News(News::Comm {
                            task, exec: true, ..
                        }),
                } => see(*task, *time),
                Record::Lost(_) | Record::Malformed => whole = false,
                _ => {}
            });
        }
        whole
    }
}
