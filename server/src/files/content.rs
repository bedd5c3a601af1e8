//! Contents of files on their way to the disk: what is all zeros becomes a hole.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};

/// How much is read at once.
const BUFFER: usize = 256 << 10;
/// The smallest hole: a block of common file systems.
const BLOCK: usize = 4 << 10;

/// Copies all of `from` into the empty file `to`; how much that was.
///
/// # Errors
/// What reading or writing gives.
pub(super) fn copy_sparse(mut from: impl Read, to: &mut File) -> io::Result<u64> {
    let mut buffer = vec![0; BUFFER];
    let mut length = 0;
    loop {
        let got = fill(&mut from, &mut buffer)?;
        if got == 0 {
            break;
        }
        write_blocks(&buffer[..got], to)?;
        length += got as u64;
    }
    // A hole at the end is not there until the file has its length.
    to.set_len(length)?;
    Ok(length)
}

/// Writes runs of blocks that hold something, and steps over the others.
fn write_blocks(mut data: &[u8], to: &mut File) -> io::Result<()> {
    while !data.is_empty() {
        let zeros = run(data, is_zero);
        if zeros > 0 {
            to.seek(SeekFrom::Current(i64::try_from(zeros).unwrap_or(i64::MAX)))?;
        }
        let something = run(&data[zeros..], |block| !is_zero(block));
        to.write_all(&data[zeros..zeros + something])?;
        data = &data[zeros + something..];
    }
    Ok(())
}

/// The length of the blocks at the start that are so.
fn run(data: &[u8], is_so: impl Fn(&[u8]) -> bool) -> usize {
    data.chunks(BLOCK)
        .take_while(|block| is_so(block))
        .map(<[u8]>::len)
        .sum()
}

fn is_zero(block: &[u8]) -> bool {
    // Whole words first, which is what the optimiser makes wide.
    let (words, rest) = block.as_chunks::<16>();
    words.iter().all(|word| *word == [0; 16]) && rest.iter().all(|byte| *byte == 0)
}

/// Reads until the buffer is full or nothing more comes: blocks must not depend on how data arrives.
fn fill(from: &mut impl Read, buffer: &mut [u8]) -> io::Result<usize> {
    let mut got = 0;
    while got < buffer.len() {
        match from.read(&mut buffer[got..]) {
            Ok(0) => break,
            Ok(more) => got += more,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(got)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests fail by panicking")]
mod tests {
    use std::os::unix::fs::MetadataExt as _;

    use super::*;

    fn copied(data: &[u8]) -> (Vec<u8>, u64) {
        let mut file = tempfile::tempfile().unwrap();
        assert_eq!(copy_sparse(data, &mut file).unwrap(), data.len() as u64);
        file.rewind().unwrap();
        let mut read = Vec::new();
        file.read_to_end(&mut read).unwrap();
        (read, file.metadata().unwrap().blocks() * 512)
    }

    #[test]
    fn zeros_take_no_space_and_nothing_else_is_changed() {
        let mut data = vec![0; 3 << 20];
        data[1 << 20] = 1;
        data[(2 << 20) + 5000] = 2;
        let (read, space) = copied(&data);
        assert_eq!(read, data);
        assert!(space <= 64 << 10, "{space} bytes on the disk");
        for data in [&b""[..], b"abc", &[0; 10], &[0; 4096], &[7; 300_000]] {
            assert_eq!(copied(data).0, data);
        }
    }
}
