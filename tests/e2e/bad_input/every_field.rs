//! Every bad value for every field of every method.

use wharf_api::{ErrorReason, METHODS};

use super::attack;
use super::mutations::{self, Mutation, Wrong};
use super::requests::{Does, harmless};
use super::wire::{Outcome, Wire, message};
use crate::harness::Refusal;

/// What may be said of a request, whatever is wrong with it.
const CLEAR: &[ErrorReason] = &[
    ErrorReason::InvalidField,
    ErrorReason::OptionNotSupported,
    ErrorReason::PageTokenInvalid,
    ErrorReason::CursorInvalid,
    ErrorReason::StreamProtocol,
    ErrorReason::ContainerNotFound,
    ErrorReason::ExecNotFound,
    ErrorReason::TerminalNotAllocated,
    ErrorReason::ImageNotFound,
    ErrorReason::PlatformNotFound,
    ErrorReason::UserNotFound,
    ErrorReason::SecurityProfileInvalid,
    ErrorReason::RunChanged,
    ErrorReason::EtagMismatch,
];

#[test]
fn a_harmless_request_does_what_is_said_of_it() {
    attack(async |_, socket| {
        let mut wire = Wire::connect(socket).await;
        for method in METHODS {
            let (does, request) = harmless(method);
            let outcome = wire.call(method.path).bytes(message(&request)).send().await;
            let as_said = match (&outcome, does) {
                (Outcome::Answered, Does::Answer) => true,
                (Outcome::Refused(refusal), Does::Refuse) => CLEAR.contains(&refusal.reason()),
                _ => false,
            };
            assert!(as_said, "{}: {outcome}", method.path);
        }
    });
}

#[test]
fn a_bad_value_of_any_field_is_refused_by_its_name_or_harmless() {
    attack(async |_, socket| {
        let mut wire = Wire::connect(socket).await;
        let (mut tried, mut problems) = (0, Vec::new());
        for method in METHODS {
            let (_, request) = harmless(method);
            for mutation in mutations::of_request(method) {
                let mut bad = request.clone();
                bad.extend_from_slice(&mutation.message);
                let outcome = wire.call(method.path).bytes(message(&bad)).send().await;
                if let Some(problem) = objection(&mutation, &outcome) {
                    let (path, wrong) = (&mutation.path, mutation.wrong);
                    problems.push(format!("{} {path} {wrong:?}: {problem}", method.name));
                }
                tried += 1;
            }
        }
        eprintln!("{tried} bad values");
        assert!(tried > 1_000, "only {tried}");
        assert!(problems.is_empty(), "{}", problems.join("\n"));
    });
}

/// What there is to say against an outcome.
fn objection(mutation: &Mutation, outcome: &Outcome) -> Option<String> {
    let refusal = match outcome {
        Outcome::Answered if must_be_refused(mutation) => return Some("accepted".to_owned()),
        Outcome::Answered => return None,
        Outcome::Broken(how) => return Some(how.clone()),
        Outcome::Refused(refusal) => refusal,
    };
    let clear = CLEAR.contains(&refusal.reason())
        && (!must_be_refused(mutation) || names(mutation, refusal));
    (!clear).then(|| format!("{refusal}, {:?}", refusal.violations))
}

/// These are never right, whatever the field. Others are for some: a label may hold a path.
fn must_be_refused(mutation: &Mutation) -> bool {
    match mutation.wrong {
        Wrong::Enum | Wrong::NoUtf8 | Wrong::Nul | Wrong::Time | Wrong::Negative | Wrong::Long => {
            true
        }
        // Arguments are limited by their size together; conditions that are repeated are one.
        Wrong::Many => !matches!(leaf(mutation), "args" | "entrypoint" | "conditions"),
        Wrong::Traversal | Wrong::Control | Wrong::Huge => is_opaque(mutation),
    }
}

/// Tokens that only the server makes.
fn is_opaque(mutation: &Mutation) -> bool {
    matches!(leaf(mutation), "page_token" | "cursor")
}

fn leaf(mutation: &Mutation) -> &str {
    let path = &mutation.path;
    path.rsplit('.').next().unwrap_or(path)
}

/// A cursor says nothing without the container it is of.
fn is_needed_for(field: &str, mutation: &Mutation) -> bool {
    field == "positions.container_id" && mutation.path == "positions.cursor"
}

/// Whether a refusal is about the field that is bad, and not about what makes the request harmless.
fn names(mutation: &Mutation, refusal: &Refusal) -> bool {
    match refusal.reason() {
        // A message that cannot be decoded has no fields.
        ErrorReason::InvalidField if mutation.wrong == Wrong::NoUtf8 => {
            refusal.fields().contains("request")
        }
        ErrorReason::InvalidField | ErrorReason::OptionNotSupported => refusal
            .fields()
            .into_iter()
            .map(without_indices)
            .any(|field| is_related(&field, &mutation.path) || is_needed_for(&field, mutation)),
        ErrorReason::PageTokenInvalid => leaf(mutation) == "page_token",
        ErrorReason::CursorInvalid => leaf(mutation) == "cursor",
        ErrorReason::SecurityProfileInvalid => leaf(mutation) == "seccomp_json",
        // The bad message is not the one that has to come first.
        ErrorReason::StreamProtocol => {
            mutation.path.starts_with("end.") || mutation.path.starts_with("input.")
        }
        // That it is not there is said before anything else.
        ErrorReason::ExecNotFound => true,
        _ => false,
    }
}

/// Whether one path is the other, or leads to it.
fn is_related(one: &str, other: &str) -> bool {
    let leads = |from: &str, to: &str| {
        to.strip_prefix(from)
            .is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
    };
    leads(one, other) || leads(other, one)
}

/// `spec.mounts[2].target` as `spec.mounts.target`. Keys may hold brackets of their own.
fn without_indices(field: &str) -> String {
    match (field.find('['), field.rfind(']')) {
        (Some(open), Some(close)) if open < close => {
            format!("{}{}", &field[..open], &field[close + 1..])
        }
        (Some(open), None) => field[..open].to_owned(),
        _ => field.to_owned(),
    }
}
