//! Whatever can be decoded can be parsed, without a panic.

use proptest::collection::vec;
use proptest::prelude::*;
use prost::Message;
use wharf_api::v1;

use crate::transport::Violations;
use crate::transport::parse::{container, event, exec, image, log, stats, stdio, update};

/// Bytes that decode more often than random ones: fields with small numbers, nested.
fn message() -> impl Strategy<Value = Vec<u8>> {
    let scalar = prop_oneof![
        (1..32_u32, any::<u64>()).prop_map(|(tag, value)| {
            let mut bytes = Vec::new();
            prost::encoding::uint64::encode(tag, &value, &mut bytes);
            bytes
        }),
        (1..32_u32, "\\PC{0,8}|/[a-z/.]{0,9}|\\x00").prop_map(|(tag, value)| {
            let mut bytes = Vec::new();
            prost::encoding::string::encode(tag, &value, &mut bytes);
            bytes
        }),
    ];
    scalar.prop_recursive(5, 64, 6, |inner| {
        (1..32_u32, vec(inner, 0..6)).prop_map(|(tag, fields)| {
            let mut bytes = Vec::new();
            prost::encoding::bytes::encode(tag, &fields.concat(), &mut bytes);
            bytes
        })
    })
}

fn parse_as<T: Message + Default>(bytes: &[u8], parse: impl FnOnce(T, &mut Violations)) {
    if let Ok(request) = T::decode(bytes) {
        parse(request, &mut Violations::new());
    }
}

fn parse_as_everything(bytes: &[u8]) {
    parse_as(bytes, |r, out| _ = container::create(r, out));
    parse_as(bytes, |r, out| _ = container::list(r, out));
    parse_as(bytes, |r, out| _ = container::delete(r, out));
    parse_as(bytes, |r, out| _ = container::stop(r, out));
    parse_as(bytes, |r, out| _ = container::restart(r, out));
    parse_as(bytes, |r, out| _ = container::wait(r, out));
    parse_as(bytes, |r, out| _ = container::prune(r, out));
    parse_as(bytes, |r, out| _ = container::start(r, out));
    parse_as(bytes, |r, out| _ = container::get(r, out));
    parse_as(bytes, |r, out| _ = container::signal(r, out));
    parse_as(bytes, |r, out| _ = container::run(r, out));
    parse_as(bytes, |r, out| _ = container::attach(r, out));
    parse_as(bytes, |r, out| _ = container::follow(r, out));
    parse_as(bytes, |r, out| _ = container::resize(r, out));
    parse_as(bytes, |r, out| _ = exec::create(r, out));
    parse_as(bytes, |r, out| _ = exec::run(r, out));
    parse_as(bytes, |r, out| _ = exec::attach(r, out));
    parse_as(bytes, |r, out| _ = exec::follow(r, out));
    parse_as(bytes, |r, out| _ = exec::sync(r, out));
    parse_as(bytes, |r, out| exec::write_stdin(&r, out));
    parse_as(bytes, |r, out| _ = exec::signal(r, out));
    parse_as(bytes, |r, out| _ = exec::resize(r, out));
    parse_as(bytes, |r, out| _ = stdio::input(r, out));
    parse_as(bytes, |r, out| _ = update::update(r, out));
    parse_as(bytes, |r, out| _ = event::list(r, out));
    parse_as(bytes, |r, out| _ = log::stream(r, out));
    parse_as(bytes, |r, out| _ = log::follow(r, out));
    parse_as(bytes, |r, out| _ = image::list(r, out));
    parse_as(bytes, |r, out| _ = stats::list(r, out));
    parse_as(bytes, |r, out| _ = stats::stream(r, out));
    parse_as(bytes, |r: v1::ImportImageStart, out| {
        drop(image::import(&r, out))
    });
    parse_as(bytes, |r: v1::WatchEventsRequest, out| {
        // Cursors are the journal's to read.
        if !matches!(r.start, Some(v1::watch_events_request::Start::Cursor(_))) {
            _ = event::watch(r, out);
        }
    });
}

proptest! {
    #[test]
    fn no_message_makes_a_parser_panic(fields in vec(message(), 0..12)) {
        parse_as_everything(&fields.concat());
    }

    #[test]
    fn no_bytes_make_a_parser_panic(bytes in vec(any::<u8>(), 0..256)) {
        parse_as_everything(&bytes);
    }
}
