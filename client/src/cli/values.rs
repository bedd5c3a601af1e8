//! Values of flags: sizes, lengths and points of time, pairs.

use std::time::{Duration, SystemTime};

use prost_types::Timestamp;
use wharf_client::v1::restart_policy::Condition;
use wharf_client::v1::{Platform, RestartPolicy};

/// "512m", "1.5g" or plain bytes; units are powers of 1,024, as docker has them for memory.
pub(crate) fn bytes(text: &str) -> Result<i64, String> {
    let wrong = || format!("{text:?} is not a size, such as 512m");
    let lower = text.to_ascii_lowercase();
    let short = lower.strip_suffix('b').unwrap_or(&lower);
    let short = short.strip_suffix('i').unwrap_or(short);
    let (digits, power) = match short.char_indices().next_back() {
        Some((end, unit)) if unit.is_ascii_alphabetic() => {
            (&short[..end], "kmgtp".find(unit).ok_or_else(wrong)? + 1)
        }
        _ => (short, 0),
    };
    let power = u32::try_from(power).map_err(|_| wrong())?;
    scaled(digits, 1024_i64.pow(power)).ok_or_else(wrong)
}

/// "1.5" cores are 1,500 millicores.
pub(crate) fn millicores(text: &str) -> Result<i64, String> {
    scaled(text, 1000).ok_or_else(|| format!("{text:?} is not a number of processors, such as 1.5"))
}

/// A decimal number that is not negative, times `unit`, rounded down.
fn scaled(digits: &str, unit: i64) -> Option<i64> {
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    let numeric = |part: &str| part.bytes().all(|b| b.is_ascii_digit());
    if whole.is_empty() || !numeric(whole) || !numeric(fraction) || fraction.len() > 9 {
        return None;
    }
    let whole = whole.parse::<i64>().ok()?.checked_mul(unit)?;
    let denominator = 10_i128.pow(u32::try_from(fraction.len()).ok()?);
    let numerator = format!("0{fraction}").parse::<i128>().ok()?;
    let part = i64::try_from(numerator * i128::from(unit) / denominator).ok()?;
    whole.checked_add(part)
}

/// "90", "90s", "1h30m" or "1.5s"; without a unit, seconds.
pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    let wrong = || format!("{text:?} is not a length of time, such as 90s or 1h30m");
    let mut total = Duration::ZERO;
    let mut rest = text;
    while !rest.is_empty() {
        let digits = rest
            .find(|c: char| !c.is_ascii_digit() && c != '.')
            .unwrap_or(rest.len());
        let (number, after) = rest.split_at(digits);
        let end = after
            .find(|c: char| c.is_ascii_digit())
            .unwrap_or(after.len());
        let (unit, next) = after.split_at(end);
        let nanos = scaled(number, unit_nanos(unit, text).ok_or_else(wrong)?).ok_or_else(wrong)?;
        total += Duration::from_nanos(u64::try_from(nanos).map_err(|_| wrong())?);
        rest = next;
    }
    match text {
        "" => Err(wrong()),
        _ => Ok(total),
    }
}

/// Only a number that stands alone needs no unit.
fn unit_nanos(unit: &str, text: &str) -> Option<i64> {
    const SECOND: i64 = 1_000_000_000;
    match unit {
        "ns" => Some(1),
        "us" | "µs" => Some(1_000),
        "ms" => Some(1_000_000),
        "s" => Some(SECOND),
        "m" => Some(60 * SECOND),
        "h" => Some(3_600 * SECOND),
        "d" => Some(86_400 * SECOND),
        "" if text.bytes().all(|b| b.is_ascii_digit() || b == b'.') => Some(SECOND),
        _ => None,
    }
}

/// As the API has it.
pub(crate) fn proto_duration(length: Duration) -> prost_types::Duration {
    // Flags hold far less than the 292 billion years that would not fit.
    prost_types::Duration::try_from(length).unwrap_or_default()
}

/// "2026-01-02T03:04:05Z", "1767323045.5" (seconds since 1970), "10m" (ago) or "now".
pub(crate) fn point_in_time(text: &str) -> Result<Timestamp, String> {
    if text == "now" {
        return Ok(SystemTime::now().into());
    }
    if text.bytes().all(|b| b.is_ascii_digit() || b == b'.')
        && let Ok(since_1970) = duration(text)
    {
        return Ok((SystemTime::UNIX_EPOCH + since_1970).into());
    }
    if let Ok(age) = duration(text) {
        let time = SystemTime::now().checked_sub(age);
        return Ok(time.unwrap_or(SystemTime::UNIX_EPOCH).into());
    }
    text.parse().map_err(|_| {
        format!("{text:?} is not a time, such as 2026-01-02T03:04:05Z, 1767323045 or 10m")
    })
}

/// "no", "on-failure", "on-failure:5" or "always".
pub(crate) fn restart_policy(text: &str) -> Result<RestartPolicy, String> {
    let (name, max_retries) = match text.split_once(':') {
        Some((name @ "on-failure", max)) => (name, max.parse().ok()),
        Some(_) => (text, None),
        None => (text, Some(0)),
    };
    let condition = match name {
        "no" | "never" => Some(Condition::Never),
        "on-failure" => Some(Condition::OnFailure),
        "always" => Some(Condition::Always),
        _ => None,
    };
    match (condition, max_retries) {
        (Some(condition), Some(max_retries)) => Ok(RestartPolicy {
            condition: condition.into(),
            max_retries,
            ..RestartPolicy::default()
        }),
        _ => Err(format!(
            "{text:?} is not one of no, on-failure[:MAX], always"
        )),
    }
}

/// "linux/arm64/v8".
pub(crate) fn platform(text: &str) -> Result<Platform, String> {
    let mut parts = text.split('/').map(str::to_owned);
    match (parts.next(), parts.next(), parts.next(), parts.next()) {
        (Some(os), Some(architecture), variant, None) => Ok(Platform {
            os,
            architecture,
            variant: variant.unwrap_or_default(),
        }),
        _ => Err(format!("{text:?} is not a platform, such as linux/amd64")),
    }
}

/// "key=value", or "key" for an empty value.
pub(crate) fn pair(text: &str) -> Result<(String, String), String> {
    let (key, value) = text.split_once('=').unwrap_or((text, ""));
    match key {
        "" => Err(format!("{text:?} has no key, as in key=value")),
        _ => Ok((key.to_owned(), value.to_owned())),
    }
}

/// "key=value" only.
pub(crate) fn full_pair(text: &str) -> Result<(String, String), String> {
    match text.contains('=') {
        true => pair(text),
        false => Err(format!("{text:?} is not key=value")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_take_units_of_1024() {
        let read = ["0", "100", "1k", "512m", "1.5G", "2GiB", "10b"].map(bytes);
        let k = 1024;
        let want = [0, 100, k, 512 * k * k, 3 * k * k * k / 2, 2 * k * k * k, 10];
        assert_eq!(read, want.map(Ok));
        for text in ["", "m", "-1", "1x", "1.2.3", "9999999p", "0x10"] {
            assert!(bytes(text).is_err(), "{text}");
        }
    }

    #[test]
    fn processors_are_counted_in_thousandths() {
        assert_eq!(
            [millicores("2"), millicores("0.5"), millicores("1.2345")],
            [2000, 500, 1234].map(Ok)
        );
        assert!(millicores("-1").is_err());
    }

    #[test]
    fn durations_take_units_one_after_the_other() {
        let read = |text| duration(text).map(|d| d.as_millis());
        assert_eq!(read("90"), Ok(90_000));
        assert_eq!(read("1h30m"), Ok(5_400_000));
        assert_eq!(read("1.5s"), Ok(1_500));
        assert_eq!(read("250ms"), Ok(250));
        for text in ["", "s", "1h30", "5 s", "-3s", "1y"] {
            assert!(duration(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_restart_policy_may_have_a_number_of_attempts() {
        let read =
            |text| restart_policy(text).map(|policy| (policy.condition(), policy.max_retries));
        assert_eq!(read("no"), Ok((Condition::Never, 0)));
        assert_eq!(read("on-failure"), Ok((Condition::OnFailure, 0)));
        assert_eq!(read("on-failure:5"), Ok((Condition::OnFailure, 5)));
        assert_eq!(read("always"), Ok((Condition::Always, 0)));
        for text in ["", "sometimes", "always:3", "on-failure:x"] {
            assert!(restart_policy(text).is_err(), "{text}");
        }
    }

    #[test]
    fn points_in_time_are_dates_seconds_or_ages() {
        let date = point_in_time("2026-01-02T03:04:05.5Z");
        assert_eq!(date, point_in_time("1767323045.5"));
        let age = point_in_time("10m").map(|t| t.seconds);
        let now = point_in_time("now").map(|t| t.seconds - 600);
        assert!(age.is_ok_and(|age| now.is_ok_and(|now| (now - 5..=now + 5).contains(&age))));
        assert!(point_in_time("yesterday").is_err());
    }
}
