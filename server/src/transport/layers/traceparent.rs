//! W3C trace context, level 1, read strictly: what is malformed starts a new trace.

use http::HeaderMap;
use opentelemetry::trace::{SpanContext, SpanId, TraceFlags, TraceId, TraceState};
use wharf_api::metadata::TRACEPARENT;

/// The caller's span, if it sent one.
pub(super) fn parse(headers: &HeaderMap) -> Option<SpanContext> {
    let mut values = headers.get_all(TRACEPARENT).iter();
    let (Some(value), None) = (values.next(), values.next()) else {
        return None;
    };
    let (trace, span, flags) = fields(value.to_str().ok()?)?;
    let context = SpanContext::new(trace, span, flags, true, state(headers));
    context.is_valid().then_some(context)
}

/// `00-<32 hex>-<16 hex>-<2 hex>`; later versions may go on after a dash.
fn fields(text: &str) -> Option<(TraceId, SpanId, TraceFlags)> {
    let mut parts = text.splitn(5, '-');
    let version = hex(parts.next()?, 2)?;
    let trace = hex(parts.next()?, 32)?;
    let span = hex(parts.next()?, 16)?;
    let flags = hex(parts.next()?, 2)?;
    let goes_on = parts.next().is_some();
    if version == 0xff || (version == 0 && goes_on) {
        return None;
    }
    let flags = u8::try_from(flags).ok()?;
    Some((
        TraceId::from(trace),
        SpanId::from(u64::try_from(span).ok()?),
        // Of the flags only "sampled" is known.
        TraceFlags::new(flags) & TraceFlags::SAMPLED,
    ))
}

fn hex(text: &str, digits: usize) -> Option<u128> {
    let is_digit = |b: u8| b.is_ascii_digit() || (b'a'..=b'f').contains(&b);
    if text.len() != digits || !text.bytes().all(is_digit) {
        return None;
    }
    u128::from_str_radix(text, 16).ok()
}

fn state(headers: &HeaderMap) -> TraceState {
    let text = headers
        .get("tracestate")
        .and_then(|value| value.to_str().ok());
    text.and_then(|text| text.parse().ok()).unwrap_or_default()
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests fail by panicking")]
mod tests {
    use super::*;

    fn trace_id(value: &str) -> Option<String> {
        let mut headers = HeaderMap::new();
        headers.insert(TRACEPARENT, value.parse().unwrap());
        parse(&headers).map(|context| context.trace_id().to_string())
    }

    const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";

    #[test]
    fn a_parent_of_this_or_a_later_version_is_read() {
        let trace = Some(TRACE.to_owned());
        assert_eq!(trace_id(&format!("00-{TRACE}-00f067aa0ba902b7-01")), trace);
        assert_eq!(
            trace_id(&format!("42-{TRACE}-00f067aa0ba902b7-03-more")),
            trace
        );
    }

    #[test]
    fn what_is_no_parent_is_ignored() {
        for value in [
            "".to_owned(),
            "00".to_owned(),
            format!("00-{TRACE}-00f067aa0ba902b7"),
            format!("00-{TRACE}-00f067aa0ba902b7-01-more"),
            format!("ff-{TRACE}-00f067aa0ba902b7-01"),
            format!("00-{TRACE}-0000000000000000-01"),
            format!("00-{}-00f067aa0ba902b7-01", "0".repeat(32)),
            format!("00-{}-00f067aa0ba902b7-01", TRACE.to_uppercase()),
            format!("00-+{}-00f067aa0ba902b7-01", &TRACE[1..]),
        ] {
            assert_eq!(trace_id(&value), None, "{value}");
        }
    }
}
