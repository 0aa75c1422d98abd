//! What was probably meant by a word that stands in the wrong place.
//!
//! Contract: it is a guess for a person, in text that can be written there; nothing is
//! read by it.

use super::figures::{end as parsed, number, ports, torn};
use super::tree::Side;
use super::words::{self, Ends, FORMS, Form};

/// What is asked for at these ends: words and a value.
pub(super) fn at(ends: Ends, words: &str, value: &str) -> String {
    let side = match ends {
        Ends::Both => "src and dst ",
        Ends::Of(Side::Local) => "src ",
        Ends::Of(Side::Peer) => "dst ",
        Ends::Of(Side::Either) => "",
    };
    [side, words, value].concat()
}

/// An address and a port that stand together, apart.
fn apart(text: &str) -> Option<(String, &str)> {
    if let Some((addr, port, false)) = torn(text) {
        return Some((["[", addr, "]"].concat(), port));
    }
    let (Some(_), Some(_)) = parsed(text)? else {
        return None;
    };
    let (addr, port) = text.rsplit_once(':')?;
    Some((addr.into(), port))
}

/// A condition that begins with what was meant as its value.
pub(super) fn condition(word: &str) -> Option<String> {
    if let Some((addr, port)) = apart(word) {
        let words = if addr.contains('/') { "net " } else { "host " };
        return Some([words, &addr, " and port ", port].concat());
    }
    let head = match parsed(word) {
        Some((Some(_), _)) if word.contains('/') => "net ",
        Some((Some(_), _)) => "host ",
        _ if ports(word.trim_start_matches(':')).is_some() => "port ",
        _ if number(word).is_some() => "pid ",
        _ if words::kind(word).is_some() => "event ",
        _ if words::state(word).is_some() => "state ",
        _ if words::cause(word).is_some() => "cause ",
        _ => return None,
    };
    Some([head, word.trim_start_matches(':')].concat())
}

/// What was given of an end.
pub(super) fn end(ends: Ends, form: Form, text: &str) -> Option<String> {
    if form == Form::Port || text.starts_with(':') && !text.starts_with("::") {
        let word = text.trim_start_matches(':');
        return words::nearest_service(word).map(str::to_owned);
    }
    if form == Form::Any {
        if let Some(near) = words::nearest(text, &mut FORMS.into_iter()) {
            return Some(near.to_owned());
        }
    } else if text.eq_ignore_ascii_case("localhost") {
        return Some("loopback".into());
    }
    let (addr, port) = apart(text)?;
    Some(match (form, ends) {
        (Form::Any, _) | (_, Ends::Of(Side::Local | Side::Peer)) => {
            at(ends, "", &[&addr, ":", port].concat())
        }
        _ => {
            let words = if form == Form::Net { "net " } else { "host " };
            let port = at(ends, "port ", port);
            [&at(ends, words, &addr), " and ", &port].concat()
        }
    })
}
