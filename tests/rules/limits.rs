//! `docs/limits.md` against the constants of the server: their names, values and reasons.

use std::fmt::Write as _;
use std::time::Duration;

use crate::checked_in;

const DOCUMENT: &str = "docs/limits.md";
const SOURCE: &str = "server/src/model/limits.rs";

/// One constant.
pub struct Limit {
    pub name: String,
    value: Value,
    why: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Value {
    Number(u64),
    Time(Duration),
}

impl Limit {
    /// The value in its base unit: bytes, entries, milliseconds.
    pub fn number(&self) -> String {
        match self.value {
            Value::Number(number) => number.to_string(),
            Value::Time(time) => format!("{}ms", time.as_millis()),
        }
    }

    fn readable(&self) -> String {
        match self.value {
            Value::Time(time) => readable_time(time),
            Value::Number(number) if self.name.contains("BYTES") || self.name.contains("CHUNK") => {
                readable_bytes(number)
            }
            Value::Number(number) => grouped(number),
        }
    }
}

/// Every limit, in the order of the source.
pub fn all() -> Vec<Limit> {
    let source = checked_in::read(SOURCE).replace("\n    ", " ");
    let mut why = String::new();
    let mut limits = Vec::new();
    for line in source.lines() {
        if let Some(comment) = line.strip_prefix("/// ") {
            why = format!("{why} {comment}").trim().to_owned();
        } else if let Some(constant) = line.strip_prefix("pub const ") {
            limits.push(parse(constant, std::mem::take(&mut why)));
        } else {
            why.clear();
        }
    }
    limits
}

/// Reads `NAME: TYPE = EXPRESSION;`.
fn parse(constant: &str, why: String) -> Limit {
    let (name, rest) = constant.split_once(':').unwrap();
    let (_, expression) = rest.split_once('=').unwrap();
    let expression = expression.trim().trim_end_matches(';');
    let value = evaluate(expression)
        .unwrap_or_else(|| panic!("{SOURCE}: {name}: cannot read {expression:?}"));
    Limit {
        name: name.to_owned(),
        value,
        why: plain(&why),
    }
}

/// A document has no use for rustdoc's links.
fn plain(comment: &str) -> String {
    comment.replace("[`", "`").replace("`]", "`")
}

fn evaluate(expression: &str) -> Option<Value> {
    let inside = |prefix: &str| expression.strip_prefix(prefix)?.strip_suffix(')');
    if let Some(seconds) = inside("Duration::from_secs(") {
        return Some(Value::Time(Duration::from_secs(number(seconds)?)));
    }
    if let Some(millis) = inside("Duration::from_millis(") {
        return Some(Value::Time(Duration::from_millis(number(millis)?)));
    }
    number(expression).map(Value::Number)
}

/// A product, or one number shifted by another.
fn number(expression: &str) -> Option<u64> {
    if let Some((base, shift)) = expression.split_once("<<") {
        return Some(number(base)? << number(shift)?);
    }
    expression
        .split('*')
        .map(|factor| factor.trim().replace('_', "").parse::<u64>().ok())
        .product()
}

fn readable_time(time: Duration) -> String {
    let millis = time.as_millis();
    let units = [("h", 3_600_000), ("min", 60_000), ("s", 1_000), ("ms", 1)];
    let (unit, size) = units
        .into_iter()
        .find(|(_, size)| millis >= *size && millis.is_multiple_of(*size))
        .unwrap_or(("ms", 1));
    format!("{} {unit}", millis / size)
}

fn readable_bytes(bytes: u64) -> String {
    let units = [("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)];
    units
        .into_iter()
        .find(|(_, size)| bytes >= *size && bytes.is_multiple_of(*size))
        .map_or_else(
            || format!("{} bytes", grouped(bytes)),
            |(unit, size)| format!("{} {unit}", grouped(bytes / size)),
        )
}

fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

fn document() -> String {
    let mut text = String::from(
        "# Limits and defaults\n\n\
         Everything the server takes in or keeps has a limit. This table is made from\n\
         `server/src/model/limits.rs`; a test fails when the two differ. `GetCapabilities` publishes the\n\
         limits by name, in lower case.\n\n\
         A request beyond a limit gets `INVALID_FIELD` that names the field, unless the table of\n\
         [errors](errors.md) has a reason of its own for it.\n\n\
         | name | value | what and why |\n|---|---|---|\n",
    );
    for limit in all() {
        writeln!(
            text,
            "| `{}` | {} | {} |",
            limit.name,
            limit.readable(),
            limit.why
        )
        .unwrap();
    }
    text
}

#[test]
fn the_document_of_limits_says_what_the_code_says() {
    checked_in::must_equal(DOCUMENT, &document());
}

#[test]
fn every_limit_says_what_it_is_for() {
    let silent: Vec<_> = all()
        .into_iter()
        .filter(|limit| limit.why.is_empty())
        .map(|l| l.name)
        .collect();
    assert!(silent.is_empty(), "without a word: {silent:?}");
}

#[test]
fn values_are_read_as_rust_reads_them() {
    assert_eq!(evaluate("4 << 20"), Some(Value::Number(4 << 20)));
    assert_eq!(evaluate("1_024"), Some(Value::Number(1_024)));
    assert_eq!(
        evaluate("Duration::from_secs(7 * 24 * 3600)"),
        Some(Value::Time(Duration::from_secs(604_800)))
    );
    assert_eq!(evaluate("MAX_OTHER"), None);
    assert_eq!(readable_bytes(64 << 10), "64 KiB");
    assert_eq!(readable_time(Duration::from_secs(604_800)), "168 h");
    assert_eq!(grouped(1_234_567), "1,234,567");
}
