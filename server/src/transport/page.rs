//! Pages of lists: their size, where they end, and the tokens that lead to the next one.
//!
//! A token is opaque: base64url of a version, a digest of the request it belongs to, the position where
//! its page ended, and a checksum. It is no secret and no capability; damage and other requests are
//! told apart from it, and both get PAGE_TOKEN_INVALID.

use std::iter::Peekable;
use std::time::{Duration, SystemTime};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;
use prost::Message;
use sha2::{Digest as _, Sha256};
use wharf_api::v1;

use super::parse::{Field, reason};
use super::{CallError, Violations};
use crate::engine::query::Position;
use crate::model::limits;

const VERSION: u32 = 1;
/// How much of a SHA-256 tells requests apart, and damage from none.
const DIGEST_BYTES: usize = 16;
const CHECKSUM_BYTES: usize = 8;
/// Longest token that is looked at.
const MAX_TOKEN_BYTES: usize = 4_096;

/// A request for one page of a list.
pub(super) trait Paged: Message + Clone {
    /// Tells tokens of different lists apart.
    const METHOD: &'static str;
    /// At most this many entries; 0 for the default.
    fn page_size(&self) -> i32;
    /// From the last response; empty for the first page.
    fn page_token(&self) -> &str;
    /// The request without its size and token: what must stay the same from page to page.
    fn same(&self) -> Self;
}

macro_rules! paged {
    ($($request:ident),* $(,)?) => {$(
        impl Paged for v1::$request {
            const METHOD: &'static str = stringify!($request);

            fn page_size(&self) -> i32 {
                self.page_size
            }

            fn page_token(&self) -> &str {
                &self.page_token
            }

            fn same(&self) -> Self {
                Self { page_size: 0, page_token: String::new(), ..self.clone() }
            }
        }
    )*};
}

paged!(
    ListContainersRequest,
    ListContainerProcessesRequest,
    ListEventsRequest,
    ListImagesRequest,
    ListExecsRequest,
    ListStatsRequest,
);

/// The page that is asked for.
#[derive(Debug, Clone)]
pub(super) struct Page<P> {
    /// At most this many entries.
    pub(super) size: usize,
    /// Where the last page ended; `None` for the first one.
    pub(super) after: Option<P>,
    request: Bytes,
}

#[derive(Clone, PartialEq, Message)]
struct Token {
    #[prost(uint32, tag = "1")]
    version: u32,
    #[prost(bytes = "bytes", tag = "2")]
    request: Bytes,
    #[prost(bytes = "bytes", tag = "3")]
    position: Bytes,
}

impl<P: Message + Default> Page<P> {
    /// Reads which page is asked for.
    ///
    /// # Errors
    /// [`CallError::PageTokenInvalid`], which matters only if there are no violations.
    pub(super) fn of<R: Paged>(request: &R, out: &mut Violations) -> Result<Self, CallError> {
        let size = size(request.page_size(), out);
        let digest = digest(request);
        let after = match request.page_token() {
            "" => None,
            text => Some(position(text, &digest).ok_or(CallError::PageTokenInvalid)?),
        };
        Ok(Self {
            size,
            after,
            request: digest,
        })
    }

    /// The token of the page after one that ended at `position`.
    pub(super) fn token(&self, position: &P) -> String {
        let token = Token {
            version: VERSION,
            request: self.request.clone(),
            position: position.encode_to_vec().into(),
        };
        let mut bytes = token.encode_to_vec();
        let checksum = checksum(&bytes);
        bytes.extend_from_slice(&checksum);
        URL_SAFE_NO_PAD.encode(bytes)
    }
}

/// Where a page of a list that is ordered by time of creation and id ended.
#[derive(Clone, PartialEq, Message)]
pub(super) struct CreationPlace {
    /// Its last entry's time of creation, since the epoch.
    #[prost(uint64, tag = "1")]
    seconds: u64,
    #[prost(uint32, tag = "2")]
    nanos: u32,
    /// Its last entry's id.
    #[prost(bytes = "vec", tag = "3")]
    id: Vec<u8>,
    /// The event cursor of the moment the first page was read.
    #[prost(string, tag = "4")]
    pub(super) cursor: String,
}

impl CreationPlace {
    /// The place of an entry.
    pub(super) fn of(create_time: SystemTime, id: &[u8; 16], cursor: &str) -> Self {
        let age = create_time
            .duration_since(SystemTime::UNIX_EPOCH)
            .unwrap_or_default();
        Self {
            seconds: age.as_secs(),
            nanos: age.subsec_nanos(),
            id: id.to_vec(),
            cursor: cursor.to_owned(),
        }
    }

    /// Where the list goes on.
    ///
    /// # Errors
    /// [`CallError::PageTokenInvalid`] if that is no place.
    pub(super) fn position<I>(&self, id: fn([u8; 16]) -> I) -> Result<Position<I>, CallError> {
        let bytes = self.id.as_slice().try_into();
        let create_time =
            SystemTime::UNIX_EPOCH.checked_add(Duration::new(self.seconds, self.nanos));
        match (bytes, create_time) {
            (Ok(bytes), Some(create_time)) => Ok(Position {
                create_time,
                id: id(bytes),
            }),
            (Err(_), _) | (_, None) => Err(CallError::PageTokenInvalid),
        }
    }
}

fn size(asked: i32, out: &mut Violations) -> usize {
    match usize::try_from(asked) {
        Ok(0) => limits::DEFAULT_PAGE,
        Ok(size) => size.min(limits::MAX_PAGE),
        Err(_) => {
            Field::new("page_size").reject(reason::OUT_OF_RANGE, "must not be negative", out);
            limits::DEFAULT_PAGE
        }
    }
}

fn digest<R: Paged>(request: &R) -> Bytes {
    let hash = Sha256::new()
        .chain_update(R::METHOD)
        .chain_update(request.same().encode_to_vec())
        .finalize();
    Bytes::copy_from_slice(&hash[..DIGEST_BYTES])
}

fn checksum(bytes: &[u8]) -> [u8; CHECKSUM_BYTES] {
    let hash: [u8; 32] = Sha256::digest(bytes).into();
    let mut checksum = [0; CHECKSUM_BYTES];
    checksum.copy_from_slice(&hash[..CHECKSUM_BYTES]);
    checksum
}

fn position<P: Message + Default>(text: &str, request: &Bytes) -> Option<P> {
    if text.len() > MAX_TOKEN_BYTES {
        return None;
    }
    let bytes = URL_SAFE_NO_PAD.decode(text).ok()?;
    let (body, sum) = bytes.split_at_checked(bytes.len().checked_sub(CHECKSUM_BYTES)?)?;
    if sum != checksum(body) {
        return None;
    }
    let token = Token::decode(body).ok()?;
    if token.version != VERSION || token.request != *request {
        return None;
    }
    P::decode(token.position).ok()
}

/// Takes entries until the page is full, by number or by size. The second value is whether there
/// are more.
pub(super) fn fill<T: Message>(
    entries: impl IntoIterator<Item = T>,
    size: usize,
) -> (Vec<T>, More) {
    let mut entries = entries.into_iter().peekable();
    let page = take(&mut entries, size);
    match entries.peek() {
        Some(_) => (page, More::Yes),
        None => (page, More::No),
    }
}

/// Takes entries until the page is full, by number (at least 1) or by size, and leaves the others.
pub(super) fn take<I: Iterator<Item: Message>>(
    entries: &mut Peekable<I>,
    size: usize,
) -> Vec<I::Item> {
    let (mut page, mut bytes) = (Vec::new(), 0);
    while let Some(entry) = entries.next_if(|entry| {
        // One entry always fits: each is far below the size of a page.
        page.is_empty()
            || page.len() < size && bytes + entry.encoded_len() <= limits::MAX_PAGE_BYTES
    }) {
        bytes += entry.encoded_len();
        page.push(entry);
    }
    page
}

/// Whether there are entries after a page.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum More {
    Yes,
    No,
}

#[cfg(test)]
#[allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "tests fail by panicking"
)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    type Numbered = Page<prost_types::Timestamp>;

    fn request() -> v1::ListContainersRequest {
        v1::ListContainersRequest {
            page_size: 10,
            filter: Some(v1::ContainerFilter {
                names: vec!["web".to_owned()],
                ..Default::default()
            }),
            ..Default::default()
        }
    }

    fn place() -> prost_types::Timestamp {
        prost_types::Timestamp {
            seconds: 1_700_000_000,
            nanos: 5,
        }
    }

    fn read(request: &v1::ListContainersRequest) -> Result<Numbered, CallError> {
        Page::of(request, &mut Violations::new())
    }

    fn second_page() -> v1::ListContainersRequest {
        v1::ListContainersRequest {
            page_token: read(&request()).unwrap().token(&place()),
            ..request()
        }
    }

    #[test]
    fn a_token_leads_on_from_where_its_page_ended() {
        assert_eq!(read(&request()).unwrap().after, None);
        assert_eq!(read(&second_page()).unwrap().after, Some(place()));
    }

    #[test]
    fn the_size_may_change_from_page_to_page() {
        let request = v1::ListContainersRequest {
            page_size: 999,
            ..second_page()
        };
        let page = read(&request).unwrap();
        assert_eq!((page.size, page.after), (999, Some(place())));
    }

    #[test]
    fn a_token_of_another_filter_is_refused() {
        let request = v1::ListContainersRequest {
            filter: None,
            ..second_page()
        };
        assert!(matches!(read(&request), Err(CallError::PageTokenInvalid)));
    }

    #[test]
    fn a_token_of_another_list_is_refused() {
        let token = read(&v1::ListContainersRequest::default())
            .unwrap()
            .token(&place());
        let request = v1::ListImagesRequest {
            page_token: token,
            ..Default::default()
        };
        let page: Result<Numbered, _> = Page::of(&request, &mut Violations::new());
        assert!(matches!(page, Err(CallError::PageTokenInvalid)));
    }

    #[test]
    fn sizes_are_defaulted_bounded_and_not_negative() {
        for (asked, size) in [(0, 100), (1, 1), (1_000, 1_000), (i32::MAX, 1_000)] {
            let request = v1::ListContainersRequest {
                page_size: asked,
                ..Default::default()
            };
            assert_eq!(read(&request).unwrap().size, size);
        }
        let request = v1::ListContainersRequest {
            page_size: -1,
            ..Default::default()
        };
        let mut violations = Violations::new();
        let _: Numbered = Page::of(&request, &mut violations).unwrap();
        assert_eq!(violations.as_slice()[0].field, "page_size");
    }

    #[test]
    fn a_page_ends_at_its_size_and_at_two_mebibytes() {
        let small = |n| {
            (0..n).map(|pid| v1::ProcessInfo {
                pid,
                ..Default::default()
            })
        };
        assert_eq!(fill(small(3), 3).1, More::No);
        assert_eq!(fill(small(4), 3).1, More::Yes);
        let large = (0..5).map(|_| v1::ProcessInfo {
            args: vec!["x".repeat(1_000_000)],
            ..Default::default()
        });
        let (page, more) = fill(large, 100);
        assert_eq!((page.len(), more), (2, More::Yes));
    }

    proptest! {
        #[test]
        fn a_damaged_token_is_refused(at in 0..1_000_usize, with in "[A-Za-z0-9_-]") {
            let mut request = second_page();
            let at = at % request.page_token.len();
            let damaged = request.page_token[at..=at] != with;
            request.page_token.replace_range(at..=at, &with);
            prop_assert_eq!(read(&request).is_err(), damaged);
        }

        #[test]
        fn no_text_makes_it_panic(text in ".*") {
            let request = v1::ListContainersRequest { page_token: text, ..request() };
            let _ = read(&request);
        }
    }
}
