//! Error numbers at the end of a runtime's words.

/// What strerror(3) and Go say, lower-case, and the number's name (errno(3)).
const WORDS: [(&str, &str); 28] = [
    ("argument list too long", "E2BIG"),
    ("bad file descriptor", "EBADF"),
    ("cannot allocate memory", "ENOMEM"),
    ("device or resource busy", "EBUSY"),
    ("directory not empty", "ENOTEMPTY"),
    ("disk quota exceeded", "EDQUOT"),
    ("exec format error", "ENOEXEC"),
    ("file exists", "EEXIST"),
    ("file name too long", "ENAMETOOLONG"),
    ("function not implemented", "ENOSYS"),
    ("input/output error", "EIO"),
    ("invalid argument", "EINVAL"),
    ("is a directory", "EISDIR"),
    ("no such device", "ENODEV"),
    ("no such file or directory", "ENOENT"),
    ("no space left on device", "ENOSPC"),
    ("not a directory", "ENOTDIR"),
    ("numerical result out of range", "ERANGE"),
    ("operation not permitted", "EPERM"),
    ("permission denied", "EACCES"),
    ("read-only file system", "EROFS"),
    ("resource temporarily unavailable", "EAGAIN"),
    ("stale file handle", "ESTALE"),
    ("too many levels of symbolic links", "ELOOP"),
    ("too many links", "EMLINK"),
    ("too many open files", "EMFILE"),
    ("too many open files in system", "ENFILE"),
    ("transport endpoint is not connected", "ENOTCONN"),
];

/// Splits `text` into what failed and the name of the error number it ends with.
///
/// Only the end counts: the words of an error number elsewhere may be part of a path.
pub(super) fn split(text: &str) -> (&str, Option<&'static str>) {
    let Some((rest, last)) = text.rsplit_once(": ") else {
        return (text, None);
    };
    let last = last.trim().to_lowercase();
    match WORDS.iter().find(|(words, _)| *words == last) {
        Some((_, name)) => (rest, Some(name)),
        None => (text, None),
    }
}
