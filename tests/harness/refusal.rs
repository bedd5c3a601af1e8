//! An error as clients see it, checked against `docs/errors.md` wherever one turns up.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::time::Duration;

use tonic::{Code, Status};
use tonic_types::StatusExt as _;
use wharf_api::{ERROR_DOMAIN, ErrorReason, metadata};

use super::error_table::{self, Row};

/// Larger trailers are cut or refused by common clients.
const MAX_ENCODED: usize = 4 << 10;

/// What a call got instead of an answer.
#[derive(Debug, Clone)]
pub struct Refusal {
    pub code: Code,
    /// `None` for what the transport made up: the server was not there to say anything.
    pub reason: Option<ErrorReason>,
    pub metadata: BTreeMap<String, String>,
    /// Field and reason of each violation.
    pub violations: Vec<(String, String)>,
    pub retry_after: Option<Duration>,
    pub request_id: String,
    message: String,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let reason = self
            .reason
            .map_or("no reason", |reason| reason.as_str_name());
        write!(
            f,
            "{:?} {reason} {:?}: {}",
            self.code, self.metadata, self.message
        )
    }
}

impl Refusal {
    pub fn is(&self, reason: ErrorReason) -> bool {
        self.reason == Some(reason)
    }

    /// The reason, for errors that the server must have made.
    ///
    /// # Panics
    /// If the transport made it.
    pub fn reason(&self) -> ErrorReason {
        self.reason.unwrap_or_else(|| panic!("no reason: {self}"))
    }

    /// The fields that are said to be wrong, in order of their names.
    pub fn fields(&self) -> BTreeSet<&str> {
        self.violations
            .iter()
            .map(|(field, _)| field.as_str())
            .collect()
    }
}

/// # Panics
/// If the status is not what the table says of its reason.
impl From<Status> for Refusal {
    fn from(status: Status) -> Self {
        let details = status.get_error_details();
        let Some(info) = details.error_info() else {
            return Self::without_details(&status);
        };
        let reason = ErrorReason::from_str_name(&info.reason)
            .unwrap_or_else(|| panic!("unknown reason {}", info.reason));
        let row = error_table::row(&info.reason)
            .unwrap_or_else(|| panic!("{} is not in {}", info.reason, error_table::DOCUMENT));
        let problems = departures(&status, row);
        assert!(
            problems.is_empty(),
            "{}: {problems:?}\n{status:?}",
            info.reason
        );
        Self {
            code: status.code(),
            reason: Some(reason),
            metadata: info.metadata.clone().into_iter().collect(),
            violations: details
                .bad_request()
                .into_iter()
                .flat_map(|bad| &bad.field_violations)
                .map(|violation| (violation.field.clone(), violation.reason.clone()))
                .collect(),
            retry_after: details.retry_info().and_then(|info| info.retry_delay),
            request_id: details
                .request_info()
                .map(|info| info.request_id.clone())
                .unwrap_or_default(),
            message: status.message().to_owned(),
        }
    }
}

impl Refusal {
    /// A broken connection, a deadline that tonic's client noticed first, or an error without
    /// details, which is a bug of the server that no scenario can mistake for a refusal.
    fn without_details(status: &Status) -> Self {
        Self {
            code: status.code(),
            reason: None,
            metadata: BTreeMap::new(),
            violations: Vec::new(),
            retry_after: None,
            request_id: String::new(),
            message: format!("{status:?}"),
        }
    }
}

/// In what the status differs from its row of the table.
fn departures(status: &Status, row: Row) -> Vec<String> {
    let details = status.get_error_details();
    let info = details.error_info().expect("checked by the caller");
    let mut problems = Vec::new();
    let mut expect = |is: bool, problem: String| {
        if !is {
            problems.push(problem);
        }
    };

    expect(
        code_name(status.code()) == row.code,
        format!("code {:?}", status.code()),
    );
    expect(
        info.domain == ERROR_DOMAIN,
        format!("domain {:?}", info.domain),
    );
    expect(
        status.details().len() <= MAX_ENCODED,
        "details are too large".to_owned(),
    );
    let kinds = kinds(status);
    expect(
        kinds == row.details(),
        format!("details {kinds:?}, not {:?}", row.details()),
    );
    let keys: BTreeSet<_> = info.metadata.keys().map(String::as_str).collect();
    let optional = row.optional_keys();
    expect(
        keys.difference(&optional).copied().collect::<BTreeSet<_>>() == row.keys(),
        format!("metadata {keys:?}, not {:?}", row.keys()),
    );

    let named = details.request_info().map(|info| info.request_id.as_str());
    let echoed = status
        .metadata()
        .get(metadata::REQUEST_ID)
        .and_then(|id| id.to_str().ok());
    expect(
        named.is_some() && named == echoed,
        format!("request id {named:?}, echoed {echoed:?}"),
    );

    let delay = details.retry_info().and_then(|info| info.retry_delay);
    let pushback = status.metadata().get(metadata::RETRY_PUSHBACK);
    let pushback = pushback.and_then(|text| text.to_str().ok()?.parse().ok());
    expect(
        delay == pushback.map(Duration::from_millis),
        format!("RetryInfo {delay:?}, pushback {pushback:?}"),
    );
    problems
}

/// The kinds of details besides ErrorInfo and RequestInfo.
fn kinds(status: &Status) -> BTreeSet<&'static str> {
    let details = status.get_error_details();
    [
        ("BadRequest", details.bad_request().is_some()),
        (
            "PreconditionFailure",
            details.precondition_failure().is_some(),
        ),
        ("QuotaFailure", details.quota_failure().is_some()),
        ("ResourceInfo", details.resource_info().is_some()),
        ("RetryInfo", details.retry_info().is_some()),
    ]
    .into_iter()
    .filter_map(|(name, there)| there.then_some(name))
    .collect()
}

/// `FailedPrecondition` as protos write it.
fn code_name(code: Code) -> String {
    let mut name = String::new();
    for letter in format!("{code:?}").chars() {
        if letter.is_uppercase() && !name.is_empty() {
            name.push('_');
        }
        name.push(letter.to_ascii_uppercase());
    }
    name
}
