//! Reading on from the cursor of every message gives what comes after it, exactly.

use proptest::collection::vec;
use proptest::prelude::*;

use super::cursor::Position;
use super::*;
use crate::model::limits::MAX_LOG_ENTRY_BYTES;

/// What happens to a container.
#[derive(Debug, Clone)]
enum Happening {
    Write(Output, Vec<u8>),
    Lost(Option<Output>, u64),
    Restart,
}

fn output() -> impl Strategy<Value = Output> {
    prop_oneof![Just(Output::Stdout), Just(Output::Stderr)]
}

fn happening() -> impl Strategy<Value = Happening> {
    let text = prop_oneof![
        20 => "[ab\n\r\0]{1,40}".prop_map(String::into_bytes),
        4 => vec(prop_oneof![Just(b'c'), Just(b'\n')], 1..600),
        1 => Just(vec![b'd'; MAX_LOG_ENTRY_BYTES + 3]),
    ];
    prop_oneof![
        16 => (output(), text).prop_map(|(output, bytes)| Happening::Write(output, bytes)),
        1 => (proptest::option::of(output()), 0..50_u64)
            .prop_map(|(output, bytes)| Happening::Lost(output, bytes)),
        1 => Just(Happening::Restart),
    ]
}

fn happen(log: &mut Log, happening: Happening) {
    match happening {
        Happening::Write(output, bytes) => log.write(output, bytes),
        Happening::Lost(output, bytes) => log.gap(output, bytes),
        Happening::Restart => {
            log.exit(0);
            log.start();
        }
    }
}

fn all_words(told: &[LogMessage]) -> Vec<String> {
    told.iter().flat_map(words).collect()
}

/// So many messages after each cursor are compared, with their cursors: so are those after them.
const NEXT: usize = 6;

/// Reads on from each cursor, as text too.
fn assert_resumes(log: &Log, told: &[LogMessage]) -> Result<(), TestCaseError> {
    for (index, message) in told.iter().enumerate() {
        let cursor = LogCursor::parse(&message.cursor.to_string()).unwrap();
        prop_assert_eq!(cursor, message.cursor);
        let mut scan = log.scan(cursor.position);
        for expected in told[index + 1..].iter().take(NEXT) {
            let Step::Message(found) = scan.next(&log.view()).unwrap() else {
                panic!("nothing comes after {:?}", words(message));
            };
            prop_assert_eq!(&found, expected, "after {:?}", words(message));
        }
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn every_cursor_resumes_where_it_was(
        happenings in vec(happening(), 1..40),
        ended: bool,
    ) {
        let mut log = Log::started(MIDDLE);
        for happening in happenings {
            happen(&mut log, happening);
        }
        if ended {
            log.exit(0);
        }
        let told = log.told(&mut log.scan(Position::default()));
        assert_resumes(&log, &told)?;
    }

    #[test]
    fn every_cursor_resumes_where_it_was_also_where_much_is_gone(
        happenings in vec(happening(), 20..60),
    ) {
        let mut log = Log::started(SCANT);
        for happening in happenings {
            happen(&mut log, happening);
        }
        let told = log.told(&mut log.scan(Position::default()));
        assert_resumes(&log, &told)?;
    }

    #[test]
    fn who_reads_while_it_is_written_is_told_the_same(
        happenings in vec((happening(), 0..4_usize, any::<bool>()), 1..40),
    ) {
        let mut log = Log::started(MIDDLE);
        let mut scan = log.scan(Position::default());
        let mut told = Vec::new();
        for (happening, steps, resume) in happenings {
            happen(&mut log, happening);
            for _ in 0..steps {
                if let Step::Message(message) = scan.next(&log.view()).unwrap() {
                    told.push(message);
                }
            }
            if resume {
                let cursor = scan.cursor();
                scan = log.scan(cursor.position);
            }
        }
        log.exit(0);
        told.extend(log.told(&mut scan));
        let whole = log.told(&mut log.scan(Position::default()));
        prop_assert_eq!(all_words(&told), all_words(&whole));
    }
}

#[tokio::test]
async fn a_cursor_of_another_container_or_of_a_run_to_come_is_refused() {
    let mut log = Log::started(LARGE);
    log.out("a\n");
    let mut stream = log.open(follow()).await;
    let cursor = next(&mut stream).await.unwrap().cursor;
    let other = Log::started(LARGE);
    let refused = LogStream::new(other.source(), after(cursor));
    assert!(matches!(refused, Err(Error::LogCursorInvalid { .. })));
    let mut ahead = cursor;
    ahead.position.run = 2;
    let refused = LogStream::new(log.source(), after(ahead));
    assert!(matches!(refused, Err(Error::LogCursorInvalid { .. })));
    assert_eq!(log.read(after(cursor)).await, [r#"1 out b"a\n""#]);
}

#[tokio::test]
async fn a_cursor_of_what_is_gone_meanwhile_is_followed_by_a_gap() {
    let mut log = Log::started(TINY);
    log.out("a\nb\n");
    let told = log.told(&mut log.scan(Position::default()));
    for _ in 0..300 {
        log.out("12345678\n");
    }
    let rest = log.read(after(told[1].cursor)).await;
    let missed: u64 = rest[0].strip_prefix("1 gap ").unwrap().parse().unwrap();
    let whole = log.all().await;
    let from_beginning: u64 = whole[1].strip_prefix("1 gap ").unwrap().parse().unwrap();
    assert_eq!(missed + 2, from_beginning);
    assert_eq!(rest[1..], whole[2..]);
}
