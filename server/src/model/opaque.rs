//! Opaque tokens: bytes with a checksum, as base64url text that clients hand back unread.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

/// Bytes of the checksum behind the payload.
pub const CHECKSUM_BYTES: usize = 4;

/// A payload with its checksum, as text. If both together are a multiple of three bytes, the text has no
/// spare bits, so that no two texts mean the same.
#[must_use]
pub fn encode(payload: &[u8]) -> String {
    let mut bytes = Vec::with_capacity(payload.len() + CHECKSUM_BYTES);
    bytes.extend_from_slice(payload);
    bytes.extend_from_slice(&checksum_of(payload));
    URL_SAFE_NO_PAD.encode(bytes)
}

/// The payload of `N` bytes that a text carries; `None` if it is malformed or damaged.
#[must_use]
pub fn decode<const N: usize>(text: &str) -> Option<[u8; N]> {
    // Checked first: nothing is allocated for an overlong text.
    if text.len() != ((N + CHECKSUM_BYTES) * 4).div_ceil(3) {
        return None;
    }
    let bytes = URL_SAFE_NO_PAD.decode(text).ok()?;
    let (payload, checksum) = bytes.split_last_chunk::<CHECKSUM_BYTES>()?;
    let payload = <[u8; N]>::try_from(payload).ok()?;
    (checksum_of(&payload) == *checksum).then_some(payload)
}

/// CRC-32 finds every change of up to 32 neighbouring bits, so also any change of one character.
fn checksum_of(payload: &[u8]) -> [u8; CHECKSUM_BYTES] {
    let mut crc = flate2::Crc::new();
    crc.update(payload);
    crc.sum().to_be_bytes()
}
