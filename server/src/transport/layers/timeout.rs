//! `grpc-timeout`, as gRPC over HTTP/2 writes it: at most eight digits and a unit.

use std::time::Duration;

use http::HeaderMap;

/// The header that says how long the caller waits.
pub(super) const GRPC_TIMEOUT: &str = "grpc-timeout";

/// The header is there and says nothing.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Malformed;

/// How long the caller waits, if it says so.
pub(super) fn parse(headers: &HeaderMap) -> Result<Option<Duration>, Malformed> {
    headers.get(GRPC_TIMEOUT).map_or(Ok(None), |value| {
        duration(value.as_bytes()).map(Some).ok_or(Malformed)
    })
}

fn duration(text: &[u8]) -> Option<Duration> {
    let (unit, digits) = text.split_last()?;
    if !(1..=8).contains(&digits.len()) || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let number: u64 = std::str::from_utf8(digits).ok()?.parse().ok()?;
    Some(match unit {
        b'H' => Duration::from_secs(number * 3_600),
        b'M' => Duration::from_secs(number * 60),
        b'S' => Duration::from_secs(number),
        b'm' => Duration::from_millis(number),
        b'u' => Duration::from_micros(number),
        b'n' => Duration::from_nanos(number),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_unit_is_known() {
        let seconds = |n| Some(Duration::from_secs(n));
        assert_eq!(duration(b"2H"), seconds(7_200));
        assert_eq!(duration(b"2M"), seconds(120));
        assert_eq!(duration(b"00000002S"), seconds(2));
        assert_eq!(duration(b"2m"), Some(Duration::from_millis(2)));
        assert_eq!(duration(b"2u"), Some(Duration::from_micros(2)));
        assert_eq!(duration(b"2n"), Some(Duration::from_nanos(2)));
        assert_eq!(duration(b"99999999H"), seconds(99_999_999 * 3_600));
    }

    #[test]
    fn what_is_no_timeout_is_refused() {
        for text in [
            "",
            "S",
            "1",
            "1s",
            "-1S",
            "+1S",
            "1.5S",
            "123456789S",
            " 1S",
            "1 S",
        ] {
            assert_eq!(duration(text.as_bytes()), None, "{text}");
        }
    }
}
