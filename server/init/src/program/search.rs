//! Where a program may be. The same as the keeper's own search (`backend::local::plan`): a program must be found,
//! or not, with an init as without one.

use core::ffi::CStr;

use super::sys::Errno;

/// linux/limits.h, the zero byte included.
const PATH_MAX: usize = 4096;

/// Tries where `name` may be, in order, and says why it is nowhere: what is not there, or may not be executed, is
/// passed over, and the last is only said if there is nothing else. `try_it` returns only if that fails.
pub(crate) fn execute(
    name: &CStr,
    path: Option<&[u8]>,
    mut try_it: impl FnMut(&CStr) -> Errno,
) -> Errno {
    if name.to_bytes().contains(&b'/') {
        return found_or(try_it(name), Errno::NOENT).unwrap_or_else(|error| error);
    }
    let mut found = Errno::NOENT;
    for directory in path.unwrap_or_default().split(|byte| *byte == b':') {
        let mut buffer = [0; PATH_MAX];
        let error = match joined(&mut buffer, directory, name) {
            Some(candidate) => try_it(candidate),
            None => Errno::NAMETOOLONG,
        };
        match found_or(error, found) {
            Ok(so_far) => found = so_far,
            Err(error) => return error,
        }
    }
    found
}

/// What is known after an error: to be said if nothing else comes, or at once.
fn found_or(error: Errno, so_far: Errno) -> Result<Errno, Errno> {
    match error {
        Errno::NOENT | Errno::NOTDIR => Ok(so_far),
        Errno::ACCES => Ok(Errno::ACCES),
        error => Err(error),
    }
}

/// An empty directory is the working directory (environ(7)).
fn joined<'a>(buffer: &'a mut [u8], directory: &[u8], name: &CStr) -> Option<&'a CStr> {
    let mut directory = match directory {
        b"" => b".",
        directory => directory,
    };
    while let Some(shorter) = directory.strip_suffix(b"/") {
        directory = shorter;
    }
    let parts = [directory, b"/", name.to_bytes_with_nul()];
    let mut length = 0;
    for part in parts {
        let end = length + part.len();
        let place = buffer.get_mut(length..end)?;
        for (to, from) in place.iter_mut().zip(part) {
            *to = *from;
        }
        length = end;
    }
    CStr::from_bytes_with_nul(buffer.get(..length)?).ok()
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests fail by panicking")]
mod tests {
    use super::*;

    /// Where it looks, if each place answers with `errors` in turn, and what it says.
    fn looks(name: &CStr, path: Option<&str>, errors: &[Errno]) -> (Vec<String>, Errno) {
        let mut tried = Vec::new();
        let mut errors = errors.iter().chain(std::iter::repeat(&Errno::NOENT));
        let said = execute(name, path.map(str::as_bytes), |candidate| {
            tried.push(candidate.to_str().unwrap().to_owned());
            *errors.next().unwrap()
        });
        (tried, said)
    }

    #[test]
    fn a_path_is_taken_as_it_is() {
        let (tried, said) = looks(c"./sh", Some("/bin"), &[]);
        assert_eq!((tried, said), (vec!["./sh".to_owned()], Errno::NOENT));
        assert_eq!(looks(c"/bin/sh", None, &[Errno::NOEXEC]).1, Errno::NOEXEC);
    }

    #[test]
    fn a_name_is_looked_for_in_each_directory() {
        let (tried, _) = looks(c"sh", Some("/usr/bin/:/:bin::"), &[]);
        assert_eq!(tried, ["/usr/bin/sh", "/sh", "bin/sh", "./sh", "./sh"]);
        assert_eq!(looks(c"sh", None, &[]).0, ["./sh"]);
    }

    #[test]
    fn what_may_not_be_executed_is_said_only_if_there_is_nothing_else() {
        let path = Some("/a:/b:/c");
        let (tried, said) = looks(c"sh", path, &[Errno::ACCES, Errno::NOTDIR]);
        assert_eq!((tried.len(), said), (3, Errno::ACCES));
        let (tried, said) = looks(c"sh", path, &[Errno::ACCES, Errno::NOEXEC]);
        assert_eq!((tried.len(), said), (2, Errno::NOEXEC));
    }

    #[test]
    fn a_directory_that_is_too_long_ends_the_search() {
        let long = "x".repeat(PATH_MAX);
        let (tried, said) = looks(c"sh", Some(&long), &[]);
        assert_eq!((tried.len(), said), (0, Errno::NAMETOOLONG));
    }
}
