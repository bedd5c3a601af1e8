//! What outputs are read into.

/// At most so much is read at once.
const BYTES: usize = 256 * 1024;

const PAGE_BYTES: usize = 4096;

/// A buffer that begins with a page.
///
/// Left to the allocator, a block of this size begins 16 bytes into one. The kernel copies to it from the
/// beginnings of a pipe's pages, and some processors copy more slowly when the target's place in
/// its page is just behind the source's.
#[derive(Debug)]
pub(super) struct Buffer(Vec<u8>);

impl Buffer {
    pub(super) fn new() -> Self {
        Self(vec![0; BYTES + PAGE_BYTES])
    }

    pub(super) fn bytes(&mut self) -> &mut [u8] {
        let begin = self.0.as_ptr().align_offset(PAGE_BYTES).min(PAGE_BYTES);
        &mut self.0[begin..][..BYTES]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_begins_with_a_page_and_keeps_its_size() {
        let mut buffer = Buffer::new();
        let bytes = buffer.bytes();
        assert_eq!(bytes.as_ptr().align_offset(PAGE_BYTES), 0);
        assert_eq!(bytes.len(), BYTES);
    }
}
