//! Compressed streams, told by their first bytes, and read within bounds.

use std::io::{self, BufRead, Read};

use flate2::bufread::MultiGzDecoder;

/// RFC 1952, 2.3.1.
const GZIP: [u8; 2] = [0x1f, 0x8b];
/// RFC 8878, 3.1.1.
const ZSTD: [u8; 4] = [0x28, 0xb5, 0x2f, 0xfd];
/// RFC 8878, 3.1.2: skippable frames, which may come first; the lowest four bits vary.
const ZSTD_SKIPPABLE: [u8; 3] = [0x2a, 0x4d, 0x18];
/// Largest window a zstd stream may ask to be kept in memory: 2^27 bytes, the format's own advice.
const ZSTD_WINDOW_LOG: u32 = 27;

/// How a stream is compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Compression {
    None,
    Gzip,
    Zstd,
}

impl Compression {
    pub(crate) fn of(start: &[u8]) -> Self {
        if start.starts_with(&GZIP) {
            return Self::Gzip;
        }
        let skippable = start.get(1..4) == Some(&ZSTD_SKIPPABLE[..]) && start[0] >> 4 == 5;
        if start.starts_with(&ZSTD) || skippable {
            return Self::Zstd;
        }
        Self::None
    }
}

/// The stream within `reader`, and how it was compressed.
///
/// # Errors
/// If the start cannot be read.
pub(crate) fn decompress<'a>(
    mut reader: impl BufRead + Send + 'a,
) -> io::Result<(Compression, Box<dyn Read + Send + 'a>)> {
    let compression = Compression::of(reader.fill_buf()?);
    let plain: Box<dyn Read + Send + 'a> = match compression {
        Compression::None => Box::new(reader),
        Compression::Gzip => Box::new(MultiGzDecoder::new(reader)),
        Compression::Zstd => {
            let mut decoder = zstd::Decoder::with_buffer(reader)?;
            decoder.window_log_max(ZSTD_WINDOW_LOG)?;
            Box::new(decoder)
        }
    };
    Ok((compression, plain))
}

#[cfg(test)]
#[allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "tests fail by panicking"
)]
mod tests {
    use std::io::Write as _;

    use super::*;

    fn gzip(data: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(data).expect("written");
        encoder.finish().expect("finished")
    }

    fn plain(data: &[u8]) -> io::Result<(Compression, Vec<u8>)> {
        let (compression, mut reader) = decompress(data)?;
        let mut plain = Vec::new();
        reader.read_to_end(&mut plain)?;
        Ok((compression, plain))
    }

    #[test]
    fn a_stream_is_told_by_its_start() {
        let data = b"some data".repeat(100);
        let zstd = zstd::encode_all(&data[..], 1).expect("encoded");
        for (stream, expected) in [
            (data.clone(), Compression::None),
            (gzip(&data), Compression::Gzip),
            (zstd, Compression::Zstd),
        ] {
            let (compression, plain) = plain(&stream).expect("read");
            assert_eq!(compression, expected);
            assert_eq!(plain, data);
        }
        assert_eq!(plain(b"").expect("empty"), (Compression::None, Vec::new()));
    }

    #[test]
    fn gzip_members_follow_each_other() {
        let two = [gzip(b"one"), gzip(b"two")].concat();
        assert_eq!(plain(&two).expect("read").1, b"onetwo");
    }

    #[test]
    fn a_cut_stream_is_an_error() {
        let data: Vec<u8> = (0..=255).cycle().take(4_000).collect();
        let zstd = zstd::encode_all(&data[..], 1).expect("encoded");
        for stream in [gzip(&data), zstd] {
            assert!(plain(&stream[..stream.len() - 3]).is_err());
        }
    }
    #[test]
    fn a_zstd_window_that_would_fill_the_memory_is_refused() {
        // A frame of one raw block, which declares its window (RFC 8878, 3.1.1.1.2).
        let frame = |log: u8| {
            let (header, block) = ([0, (log - 10) << 3], [(4 << 3) | 1, 0, 0]);
            [&ZSTD[..], &header, &block, b"data"].concat()
        };
        let allowed = plain(&frame(27)).expect("allowed");
        assert_eq!(allowed, (Compression::Zstd, b"data".to_vec()));
        for log in [28, 31, 40] {
            plain(&frame(log)).expect_err("too large a window");
        }
    }
}
