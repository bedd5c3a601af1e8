//! Every bad value for every field of a message, by the message's own descriptor: a field that is added
//! to a proto is attacked without anybody thinking of it.
//!
//! A mutation is an encoded message with that one field set. Appended to another encoded message it
//! overrides or extends what that has: so Protobuf merges.

use prost::Message as _;
use prost_reflect::{
    DescriptorPool, DynamicMessage, FieldDescriptor, Kind, MapKey, MessageDescriptor, Value,
};
use wharf_api::{FILE_DESCRIPTOR_SET, Method};

/// No message is nested deeper; a recursive one would be endless.
const MAX_DEPTH: usize = 10;
/// A valid text that is replaced by bytes that are none, once it is encoded.
const PLACEHOLDER: &str = "\u{2}NO UTF-8\u{3}";
const NO_UTF8: &[u8; PLACEHOLDER.len()] = b"\xff\xfe\xc3\x28\xed\xa0\x80\xf8\x88\x80";

/// What is wrong with a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wrong {
    /// A number that no value of the enum has.
    Enum,
    /// Bytes that are no UTF-8 in a text.
    NoUtf8,
    /// A NUL in a text.
    Nul,
    /// A path out of wherever it may be used.
    Traversal,
    /// Line breaks and terminal sequences.
    Control,
    /// A million characters.
    Long,
    /// A number below zero.
    Negative,
    /// The largest number there is.
    Huge,
    /// A time or duration that cannot be, or is beyond all reason.
    Time,
    /// 10,000 entries.
    Many,
}

/// One bad value.
#[derive(Debug, Clone)]
pub struct Mutation {
    /// `spec.mounts.target`.
    pub path: String,
    pub wrong: Wrong,
    /// An encoded message with that value alone.
    pub message: Vec<u8>,
}

/// Every bad value for every field of a method's request.
pub fn of_request(method: &Method) -> Vec<Mutation> {
    let pool = DescriptorPool::decode(FILE_DESCRIPTOR_SET).unwrap();
    let service = pool.get_service_by_name(method.service).unwrap();
    let input = service
        .methods()
        .find(|found| found.name() == method.name)
        .unwrap()
        .input();
    of_message(&input, 0)
        .into_iter()
        .map(|bad| Mutation {
            path: bad.path,
            wrong: bad.wrong,
            message: encoded(&bad.message, bad.wrong),
        })
        .collect()
}

fn encoded(message: &DynamicMessage, wrong: Wrong) -> Vec<u8> {
    let mut bytes = message.encode_to_vec();
    if wrong == Wrong::NoUtf8 {
        let found = bytes
            .windows(PLACEHOLDER.len())
            .position(|window| window == PLACEHOLDER.as_bytes());
        let at = found.expect("the placeholder is in the message");
        bytes[at..at + NO_UTF8.len()].copy_from_slice(NO_UTF8);
    }
    bytes
}

struct Bad {
    path: String,
    wrong: Wrong,
    message: DynamicMessage,
}

fn of_message(message: &MessageDescriptor, depth: usize) -> Vec<Bad> {
    assert!(depth < MAX_DEPTH, "{} nests too deep", message.full_name());
    message
        .fields()
        .flat_map(|field| of_field(&field, depth))
        .collect()
}

/// A message with one value for one field.
fn with(field: &FieldDescriptor, value: Value) -> DynamicMessage {
    let mut message = DynamicMessage::new(field.parent_message().clone());
    message.set_field(field, value);
    message
}

fn of_field(field: &FieldDescriptor, depth: usize) -> Vec<Bad> {
    let bad = |wrong, value| Bad {
        path: field.name().to_owned(),
        wrong,
        message: with(field, value),
    };
    if field.is_map() {
        let entries = of_map(field).into_iter();
        return entries.map(|(wrong, value)| bad(wrong, value)).collect();
    }
    let many = many(field).map(|value| bad(Wrong::Many, value));
    let one = |value| {
        if field.is_list() {
            Value::List(vec![value])
        } else {
            value
        }
    };
    if let Some(nested) = nested(field) {
        let inner = of_message(&nested, depth + 1).into_iter();
        let wrapped = inner.map(|inner| Bad {
            path: format!("{}.{}", field.name(), inner.path),
            wrong: inner.wrong,
            message: with(field, one(Value::Message(inner.message))),
        });
        return wrapped.chain(many).collect();
    }
    let values = of_kind(&field.kind()).into_iter();
    values
        .map(|(wrong, value)| bad(wrong, one(value)))
        .chain(many)
        .collect()
}

/// The message that a field holds, if its own fields are to be attacked.
fn nested(field: &FieldDescriptor) -> Option<MessageDescriptor> {
    match field.kind() {
        Kind::Message(message) if !is_time(&message) => Some(message),
        _ => None,
    }
}

fn is_time(message: &MessageDescriptor) -> bool {
    matches!(
        message.full_name(),
        "google.protobuf.Duration" | "google.protobuf.Timestamp"
    )
}

fn many(field: &FieldDescriptor) -> Option<Value> {
    let value = match field.kind() {
        Kind::String => Value::String("many".to_owned()),
        Kind::Message(message) => Value::Message(DynamicMessage::new(message)),
        Kind::Enum(_) => Value::EnumNumber(1),
        _ => return None,
    };
    field.is_list().then(|| Value::List(vec![value; 10_000]))
}

fn of_map(field: &FieldDescriptor) -> Vec<(Wrong, Value)> {
    let Kind::Message(entry) = field.kind() else {
        panic!("a map's entries are messages");
    };
    let texts = [entry.map_entry_key_field(), entry.map_entry_value_field()]
        .iter()
        .all(|part| part.kind() == Kind::String);
    assert!(
        texts,
        "{}: say what is bad for such a map",
        field.full_name()
    );
    let map = |key: String, value: String| {
        Value::Map([(MapKey::String(key), Value::String(value))].into())
    };
    let plain = || "plain".to_owned();
    let mut bad: Vec<_> = texts_that_are_bad()
        .into_iter()
        .flat_map(|(wrong, text)| {
            let key = (wrong, map(text.clone(), plain()));
            let value = (wrong, map(plain(), text));
            [key, value]
        })
        .collect();
    let many = (0..10_000).map(|n| {
        let key = MapKey::String(format!("key-{n}"));
        (key, Value::String("value".to_owned()))
    });
    bad.push((Wrong::Many, Value::Map(many.collect())));
    bad
}

fn texts_that_are_bad() -> Vec<(Wrong, String)> {
    vec![
        (Wrong::NoUtf8, PLACEHOLDER.to_owned()),
        (Wrong::Nul, "a\0b".to_owned()),
        (Wrong::Traversal, "../../../../etc/passwd".to_owned()),
        (Wrong::Traversal, "/../../etc/passwd".to_owned()),
        (Wrong::Control, "a\r\nb\u{1b}[31m".to_owned()),
        (Wrong::Long, "x".repeat(1_000_000)),
    ]
}

fn of_kind(kind: &Kind) -> Vec<(Wrong, Value)> {
    use Wrong::{Enum, Huge, Negative};
    match kind {
        Kind::String => texts_that_are_bad()
            .into_iter()
            .map(|(wrong, text)| (wrong, Value::String(text)))
            .collect(),
        Kind::Enum(_) => [9_999, -1, i32::MAX]
            .map(|number| (Enum, Value::EnumNumber(number)))
            .into(),
        Kind::Int32 | Kind::Sint32 | Kind::Sfixed32 => vec![
            (Negative, Value::I32(-1)),
            (Negative, Value::I32(i32::MIN)),
            (Huge, Value::I32(i32::MAX)),
        ],
        Kind::Int64 | Kind::Sint64 | Kind::Sfixed64 => vec![
            (Negative, Value::I64(-1)),
            (Negative, Value::I64(i64::MIN)),
            (Huge, Value::I64(i64::MAX)),
        ],
        Kind::Uint32 | Kind::Fixed32 => vec![(Huge, Value::U32(u32::MAX))],
        Kind::Uint64 | Kind::Fixed64 => vec![(Huge, Value::U64(u64::MAX))],
        Kind::Float => vec![(Huge, Value::F32(f32::NAN))],
        Kind::Double => vec![(Huge, Value::F64(f64::NAN))],
        Kind::Message(time) => times_that_are_bad(time),
        // Any is as good as any other; see `streams` for what is sent in bytes.
        Kind::Bool | Kind::Bytes => Vec::new(),
    }
}

fn times_that_are_bad(message: &MessageDescriptor) -> Vec<(Wrong, Value)> {
    let time = |seconds: i64, nanos: i32| {
        let mut time = DynamicMessage::new(message.clone());
        time.set_field_by_name("seconds", Value::I64(seconds));
        time.set_field_by_name("nanos", Value::I32(nanos));
        (Wrong::Time, Value::Message(time))
    };
    vec![
        time(i64::MIN, 0),
        time(i64::MAX, 0),
        time(i64::MAX, i32::MAX),
        time(1, -1),
        time(1, i32::MAX),
        time(i64::MIN, i32::MIN),
    ]
}
