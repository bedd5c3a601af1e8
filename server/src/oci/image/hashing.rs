//! Digests of streams, and how much of them is read.

use std::io::{self, Read};

use sha2::{Digest as _, Sha256};

use crate::model::Digest;

/// Hashes and counts what is read, and refuses to read more than a limit.
pub(super) struct Hashing<R> {
    inner: R,
    hasher: Sha256,
    read: u64,
    limit: u64,
}

impl<R: Read> Hashing<R> {
    pub(super) fn new(inner: R, limit: u64) -> Self {
        Self {
            inner,
            hasher: Sha256::new(),
            read: 0,
            limit,
        }
    }

    /// Reads to the end; digest and size of it all.
    ///
    /// # Errors
    /// Whatever the stream gives; `FileTooLarge` beyond the limit.
    pub(super) fn finish(mut self) -> io::Result<(Digest, u64)> {
        io::copy(&mut self, &mut io::sink())?;
        Ok((Digest::from_hash(self.hasher.finalize().into()), self.read))
    }
}

impl<R: Read> Read for Hashing<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let got = self.inner.read(buffer)?;
        self.read += got as u64;
        if self.read > self.limit {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        self.hasher.update(&buffer[..got]);
        Ok(got)
    }
}

#[cfg(test)]
#[allow(clippy::expect_used, reason = "tests fail by panicking")]
mod tests {
    use super::*;

    #[test]
    fn no_more_than_the_limit_is_read() {
        let within = Hashing::new(&b"12345"[..], 5).finish().expect("within");
        assert_eq!(within, (Digest::of(b"12345"), 5));
        let error = Hashing::new(io::repeat(0), 5).finish().expect_err("beyond");
        assert_eq!(error.kind(), io::ErrorKind::FileTooLarge);
    }
}
